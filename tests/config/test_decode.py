"""Text to a value of every kind of type; what does not decode says what is accepted, bounds and choices included."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from sendnn_pipeline.config.decode import GROUP, decode, is_mapping
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import EngineConfig
from sendnn_pipeline.errors import ConfigError


class Size(StrEnum):
    small = "small"
    large = "large"
    huge = "huge"


Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("7", int, 7),
        ("+7", int, 7),
        ("007", int, 7),
        ("-7", int, -7),
        ("7", Positive, 7),
        ("7", Positive | None, 7),
        ("1e3", float, 1000.0),
        ("7", float, 7.0),
        ("0.5", Share | None, 0.5),
        ("1", bool, True),
        ("FALSE", bool, False),
        ("0", bool | None, False),
        ("a b,c", str, "a b,c"),
        ("null", str | None, "null"),
        ("large", Size, "large"),
        ("large", Size | None, "large"),
        ("64, 128", list[int], [64, 128]),
        ("64", list[Positive] | None, [64]),
        ("small,huge", list[Size], ["small", "huge"]),
        ("a, b", list[str], ["a", "b"]),
        ("[64, 128]", list[int], [64, 128]),
        (" [a, 'b, c', 0012] ", list[str], ["a", "b, c", "0012"]),
        ("[]", list[str], []),
        ("[16x2]", Any, ["16x2"]),
        ("[16x2,48x4]", Any, ["16x2", "48x4"]),
        ("5", int | float, 5),
        ("0.5", int | float | None, 0.5),
        ("16x2, 48x4", Any, ["16x2", "48x4"]),
        ("auto", Any, "auto"),
        ("5", Any, 5),
        ("0.5", Any, 0.5),
        ("True", Any, True),
        ("null", Any, "null"),
        ("eager-2.0_x", GROUP, "eager-2.0_x"),
    ],
)
def test_text_becomes_a_value_of_the_key_s_own_type(text, kind, value):
    found = decode(text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "accepts"),
    [
        ("2.0", int, "a whole number"),
        (" 2", int, "a whole number"),
        ("1_000", int, "a whole number"),
        ("٣", int, "a whole number"),
        ("null", int | None, "a whole number"),
        ("0", Positive, "int >= 1"),
        ("0", Positive | None, "int >= 1"),
        ("much", float, "float"),
        ("0", Share, "float > 0.0"),
        ("1.5", Share | None, "float <= 1.0"),
        ("nan", Share, "float > 0.0"),
        ("yes", bool, "0, 1, true or false"),
        ("2", bool | None, "0, 1, true or false"),
        ("Large", Size, "small, large or huge"),
        ("medium", Size | None, "small, large or huge"),
        ("small,medium", list[Size], "small, large or huge"),
        ("a,,b", list[str], "list separated by commas, none of it empty"),
        ("[[1],2]", list[int], "a list such as [64,128]"),
        ("[a: b: c]", list[str], "a list such as [64,128]"),
        ("64,", list[int], "whole numbers separated by commas, such as 64,128"),
        ("64 128", list[Positive], "whole numbers separated by commas, such as 64,128"),
        ("64,0", list[Positive] | None, "int >= 1"),
        ("a", int | float | None, "int | float"),
        ("a: 1", dict[str, str], "mapping of text"),
        ("${oc.env:HOME}", str, "plain text without ${"),
        ("a,${b}", list[str], "plain text without ${"),
        ("a b", GROUP, "a name"),
        ("a,b", GROUP, "a name"),
    ],
)
def test_what_does_not_decode_says_what_is_accepted(text, kind, accepts):
    with pytest.raises(ValueError) as caught:
        decode(text, kind)
    assert str(caught.value) == accepts


@given(st.one_of(st.text(), st.text("0123456789+-.,_eEnaif \n")), st.sampled_from([int, float, bool, list[int], Size]))
def test_whatever_is_written_either_is_of_the_type_or_is_refused(text, kind):
    try:
        value = decode(text, kind)
    except ValueError as error:
        assert "\n" not in str(error) and "msgspec" not in str(error)
        return
    items, item = (value, int) if kind == list[int] else ([value], str if kind is Size else kind)
    assert all(type(one) is item for one in items)
    assert kind is not float or math.isnan(value) or value == float(text)


def test_mappings_are_for_files():
    assert is_mapping(dict[str, str]) and is_mapping(dict[str, int] | None) and not is_mapping(list[str])


@dataclass(frozen=True, kw_only=True)
class Options(EngineConfig):
    size: Size = Size.small
    sizes: list[Size] | None = None
    rows: Positive | None = None
    share: Share = 0.5
    names: dict[str, int] | None = None


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("size", "medium", "engine.size=medium must be small, large or huge"),
        ("sizes", ["small", "medium"], "engine.sizes=[small,medium] must be small, large or huge"),
        ("rows", 0, "engine.rows=0 must be int >= 1"),
        ("rows", "many", "engine.rows=many must be int"),
        ("share", 1.5, "engine.share=1.5 must be float <= 1.0"),
        ("share", float("nan"), "engine.share=nan must be float > 0.0"),
        ("names", {"a": "b"}, "engine.names={'a': 'b'} must be mapping of int"),
    ],
)
def test_values_of_files_are_checked_by_the_same_types(context, key, value, says):
    draft = context.compose([]).draft
    origins = {f"engine.{key}": draft.origins["engine.name"]}
    wrong = Draft(draft.values | {"engine": {"name": "mine", key: value}}, {"engine": Options}, origins, {})
    with pytest.raises(ConfigError) as caught:
        wrong.config()
    assert str(caught.value) == f"{says} (set by conf/engine/auto.yaml (engine=auto))"
