"""What a large body has is counted before it is built, and never mistaken for what its texts have."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server.body import _outside_texts, check_values


def counted(value) -> tuple[int, int]:
    """Count commas and brackets the slow way."""
    if isinstance(value, dict | list):
        inner = [counted(one) for one in (value.values() if isinstance(value, dict) else value)]
        return max(0, len(value) - 1) + sum(commas for commas, _ in inner), 1 + sum(lists for _, lists in inner)
    return 0, 0


texts = st.text(alphabet='a",[]{}\\\u00e9\n', max_size=8)
values = st.recursive(texts | st.integers(0, 9), lambda inner: st.lists(inner) | st.dictionaries(texts, inner))


@given(values)
def test_counts_are_those_outside_of_texts(value):
    assert _outside_texts(json.dumps(value).encode()) == counted(value)


def test_texts_full_of_commas_and_brackets_pass():
    check_values(json.dumps({"input": ['[{,"\\' * 100_000] * 3}).encode(), 100)


@pytest.mark.parametrize("body", ["[" + "1," * 101 + "1]", "[" * 20_000, '[{"a": "]"},' * 20_000])
def test_more_values_than_may_be_are_refused(body):
    with pytest.raises(RequestError) as refused:
        check_values(body.encode(), 100)
    assert refused.value.status == 400 and refused.value.code == "too_many_items"
