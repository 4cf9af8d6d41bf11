"""``warmup=auto``: dynamic programming against every possible choice, fitted costs against known ones, traces."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendnn_pipeline.config.auto_shapes import choose_fixed, choose_range
from sendnn_pipeline.config.step_cost import UNMEASURED, StepCost, fit_step_cost
from sendnn_pipeline.config.workload import MIXED_TEXTS, histogram_of, read_trace
from sendnn_pipeline.errors import ConfigError
from tests.conftest import resolved_run
from tests.served import sendnn

STEP_TOKENS = 1024


def text_ms(lengths, shares, cost):
    """Milliseconds of the average text when each goes to the shortest of ``lengths`` that takes it."""
    total = 0.0
    for length, share in shares:
        end = min(held for held in lengths if held >= length)
        batch = max(1, STEP_TOKENS // end)
        total += share * cost.ms(batch, end) / batch
    return total


workloads = st.dictionaries(st.integers(1, 256), st.integers(1, 50), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(workloads, st.integers(1, 3), st.floats(0, 50), st.floats(0.01, 1), st.floats(0, 0.01))
def test_no_choice_of_lengths_is_cheaper(counts, budget, fixed, token, pair):
    cost, workload = StepCost(fixed, token, pair), histogram_of(counts)
    choice = choose_fixed(256, workload, cost, STEP_TOKENS, budget=budget, multiple=16)
    ends = sorted({-(-length // 16) * 16 for length in counts} | {256})
    every = [
        [*others, 256] for count in range(budget) for others in combinations([end for end in ends if end < 256], count)
    ]
    best = min(text_ms(lengths, workload.shares, cost) for lengths in every)
    assert choice.text_ms == pytest.approx(best)
    assert len(choice.shapes) <= budget and max(shape.prompt_len for shape in choice.shapes) == 256


@pytest.mark.parametrize("longest", [1, 2, 7, 32, 200, 256, 512, 8192])
def test_every_length_is_covered_whatever_the_model(longest):
    workload = histogram_of(MIXED_TEXTS)
    fixed = choose_fixed(longest, workload, UNMEASURED, STEP_TOKENS, budget=8, multiple=8)
    assert max(shape.prompt_len for shape in fixed.shapes) == longest and len(fixed.shapes) <= 8
    (ranged,) = choose_range(longest, workload, UNMEASURED, STEP_TOKENS).shapes
    assert ranged.prompt_len == longest and ranged.least_batch == 1
    assert ranged.least_len is None or 1 <= ranged.least_len < longest


def test_mixed_texts_are_padded_by_no_more_than_a_tenth():
    workload = histogram_of(MIXED_TEXTS)
    assert choose_range(256, workload, UNMEASURED, STEP_TOKENS).padding <= 0.10
    assert choose_fixed(256, workload, UNMEASURED, STEP_TOKENS, budget=12, multiple=8).padding <= 0.10


def test_costs_are_found_again():
    true = StepCost(5.0, 0.15, 0.0002)
    sizes = [(1, 32), (32, 32), (8, 128), (1, 256), (4, 256)]
    found = fit_step_cost({size: true.ms(*size) for size in sizes})
    assert np.allclose([found.fixed_ms, found.token_ms, found.pair_ms], [5.0, 0.15, 0.0002])
    assert fit_step_cost({(1, 32): 4.0}).ms(1, 32) == pytest.approx(4.0)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(1, 64), st.integers(1, 256)), st.floats(0.1, 1000), min_size=1))
def test_no_part_of_a_cost_is_negative(measured):
    found = fit_step_cost(measured)
    assert min(found.fixed_ms, found.token_ms, found.pair_ms) >= 0


def test_traces(tmp_path):
    file = tmp_path / "trace"
    file.write_text('12\n{"num_tokens": 12}\n\n{"num_prompt_tokens": 60, "num_texts": 3, "model": "m"}\n')
    assert read_trace(file).shares == ((12, 0.4), (20, pytest.approx(0.6)))


@pytest.mark.parametrize(
    ("content", "said"),
    [("12\nx\n", "line 2 has no number of tokens"), ("0\n", "line 1"), ("true\n", "line 1"), ("", "holds no lengths")],
)
def test_traces_that_are_none(tmp_path, content, said):
    file = tmp_path / "trace"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_trace(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(tmp_path / "absent")


def test_auto_follows_the_trace_and_the_limits_of_the_backend(tiny, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("10\n" * 90 + "40\n" * 10)
    words = ["model=local", f"model.path={tiny}", "backend=eager", f"warmup.trace={trace}"]
    assert [str(shape) for shape in resolved_run(words).run.shapes] == ["8..64x1..128"]
    found = resolved_run(["model=local", f"model.path={tiny}", "backend=sendnn"]).run
    assert [str(shape) for shape in found.shapes] == ["64x1"]


def test_a_range_is_refused_where_sizes_are_fixed(tiny):
    ended = sendnn("model=local", f"model.path={tiny}", "backend=sendnn", "warmup.shapes=[64x1..4]")
    assert ended.returncode == 2 and "compiles fixed sizes only" in ended.stderr
