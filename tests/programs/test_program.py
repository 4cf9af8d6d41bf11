"""Programs by name, and the sizes that they compute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendnn_pipeline.programs.key import ArtifactKey, artifact_keys
from sendnn_pipeline.programs.program import Dim, Program


def test_names():
    assert Program("decode", (Dim("batch", 8), Dim("blocks", 16, 1))).name == "decode[batch=8,blocks=1..16]"
    assert Program("sum", ()).name == "sum[]" and not Program("sum", ()).has_ranges
    assert Program("pool", (Dim("batch", 8), Dim("len", 16, 1))).has_ranges


sizes = st.integers(1, 40)


@given(sizes, sizes, st.booleans(), sizes)
def test_a_size_that_is_computed_takes_what_is_needed_and_is_one_that_was_compiled(low, high, ranged, needed):
    low, high = min(low, high), max(low, high)
    dim = Dim("n", high, low if ranged and low < high else None)
    compiled = range(dim.smallest, high + 1)
    # The least that fits, by trying them all.
    expected = next((size for size in compiled if size >= needed), None)
    assert dim.size_for(needed) == expected
    assert Program("f", (dim,)).sizes_for(n=needed) == (None if expected is None else (expected,))


def test_a_step_that_does_not_fit_in_one_dimension_does_not_fit():
    program = Program("pool", (Dim("batch", 4, 1), Dim("len", 64, 8)))
    assert program.sizes_for(batch=3, len=5) == (3, 8) and program.sizes_for(batch=5, len=5) is None
    assert program.sizes_for(batch=4, len=65) is None and program.max_sizes == (4, 64)


@pytest.mark.parametrize("changed", ["program", "model", "task", "backend", "torch", "cpu"])
def test_every_field_of_a_key_decides_and_is_named(changed):
    def key(**values):
        one = {"program": "p[n=1]", "model": "m", "task": "embed", "backend": "b", "torch": "2", "cpu": "avx2"} | values
        machine = [("cpu", one["cpu"])]
        keys = artifact_keys(one["model"], [("task", one["task"])], one["backend"], {"torch": one["torch"]}, machine)
        return keys.key(one["program"])

    here, there = key(), key(**{changed: "other"})
    assert here.digest != there.digest and key() == here and len(here.digest) == 16
    assert here.differences(there) == [f"{changed} is other there and {dict(here.fields)[changed]} here"]
    assert here.differences(ArtifactKey(here.fields[1:])) == ["program is missing there and p[n=1] here"]
