"""``warmup=auto``: dynamic programming against every possible choice, fitted costs against known ones, whole runs."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.engines.lengths import MIXED_TEXTS, histogram_of
from sendnn_pipeline.pooling.auto_shapes import choose_fixed, choose_range
from sendnn_pipeline.pooling.choose import ShapeNeeds, choose_shapes, cost_of_steps
from sendnn_pipeline.pooling.shapes import shape_of
from sendnn_pipeline.pooling.step_cost import UNMEASURED, StepCost, fit_step_cost
from sendnn_pipeline.programs.times import StepTimes
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32

STEP_TOKENS = 1024


def text_ms(lengths, shares, cost):
    """Milliseconds of the average text when each goes to the shortest of ``lengths`` that takes it."""
    total = 0.0
    for length, share in shares:
        end = min(chosen for chosen in lengths if chosen >= length)
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
    assert len(choice.programs) <= budget and max(program.dim("len").max for program in choice.programs) == 256


@pytest.mark.parametrize("longest", [1, 2, 7, 32, 200, 256, 512, 8192])
def test_every_length_is_covered_whatever_the_model(longest):
    workload = histogram_of(MIXED_TEXTS)
    fixed = choose_fixed(longest, workload, UNMEASURED, STEP_TOKENS, budget=8, multiple=8)
    assert max(program.dim("len").max for program in fixed.programs) == longest and len(fixed.programs) <= 8
    (ranged,) = choose_range(longest, workload, UNMEASURED, STEP_TOKENS).programs
    assert ranged.dim("len").max == longest and ranged.dim("batch").min == 1
    assert ranged.dim("len").min is None or 1 <= ranged.dim("len").min < longest


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


def shapes_of(words):
    return [shape_of(program) for program in resolved_run(words).run.plan.programs]


def test_auto_follows_the_trace_and_the_limits_of_the_backend(tiny, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("10\n" * 90 + "40\n" * 10)
    words = [*EAGER_FLOAT32, f"model.path={tiny}", f"warmup.trace={trace}"]
    assert shapes_of(words) == ["8..64x1..128"]
    assert shapes_of(["model=local", "model.dtype=float16", f"model.path={tiny}", "backend=sendnn"]) == ["64x1"]


def test_the_backend_s_limits_decide_what_is_chosen():
    needs = ShapeNeeds(256, STEP_TOKENS, histogram_of(MIXED_TEXTS), UNMEASURED, 4)
    ranged = choose_shapes(needs, Limits(ranges=True))
    assert [shape_of(program) for program in ranged.programs] == ["8..256x1..128"]
    fixed = choose_shapes(needs, Limits(token_multiple=64))
    assert len(fixed.programs) <= 4 and all(program.dim("len").max % 64 == 0 for program in fixed.programs)
    default = choose_shapes(needs, Limits(default_shapes=("64x1",)))
    assert [shape_of(program) for program in default.programs] == ["64x1"] and default.padding is None


def test_measured_steps_cost_what_they_took_and_few_say_nothing():
    true = StepCost(5.0, 0.15, 0.0002)
    measured = {size: true.ms(*size) for size in ((1, 32), (32, 32), (8, 128), (1, 256))}
    one, slower, other = "pool[batch=8,len=256]", "pool[batch=32,len=256]", "echo[batch=1..8]"
    found = cost_of_steps({one: measured, slower: {size: 2 * ms for size, ms in measured.items()}})
    assert found.ms(4, 256) == pytest.approx(true.ms(4, 256))
    assert cost_of_steps({one: dict(list(measured.items())[:2])}) == UNMEASURED == cost_of_steps({})
    # Programs of another engine that ran the same model, whose sizes mean something else.
    assert cost_of_steps({one: measured, other: {(1,): 0.0, (8,): 0.0}}).ms(4, 256) == pytest.approx(true.ms(4, 256))


def test_a_run_chooses_by_what_earlier_runs_measured(tiny, tmp_path, monkeypatch):
    from sendnn_pipeline.backends.eager import EagerBackend

    monkeypatch.setattr(EagerBackend, "limits", replace(EagerBackend.limits, ranges=False))
    trace = tmp_path / "trace"
    trace.write_text("9\n" * 60 + "25\n" * 20 + "60\n" * 20)
    words = [*EAGER_FLOAT32, f"model.path={tiny}", f"cache_dir={tmp_path}", f"warmup.trace={trace}", "warmup.budget=2"]
    words += ["process.num_cpus=2", "scheduler.max_num_batched_tokens=64"]
    assert shapes_of(words) == ["16x4", "64x1"]
    run = resolved_run(words).run
    # Attention costs all: then the texts of 25 tokens must not be padded to 64.
    quadratic = {(batch, length): batch * length**2 / 100 for batch in (1, 4) for length in (16, 32, 64)}
    StepTimes((tmp_path,)).record(run.timing_prefix, {run.plan.programs[0].name: quadratic})
    assert shapes_of(words) == ["32x2", "64x1"]
    assert shapes_of([*words, "process.num_cpus=1"]) == ["16x4", "64x1"], "measured with other threads"


def test_a_range_is_refused_where_sizes_are_fixed(tiny, in_process):
    ended = in_process("model=local", f"model.path={tiny}", "backend=sendnn", "warmup.shapes=[64x1..4]")
    assert ended.returncode == 2 and "compiles fixed sizes only" in ended.stderr


def test_what_only_helps_to_choose_shapes_is_not_silent(tiny, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("5\n9\n")
    words = [*EAGER_FLOAT32, f"model.path={tiny}", f"warmup.trace={trace}", "warmup.budget=3"]
    notices = resolved_run([*words, "warmup.shapes=[16x2]"]).draft.notices
    assert [notice for notice in notices if "shapes are named" in notice] == [
        f"warmup.trace (set by warmup.trace={trace}) is not used by this run: shapes are named",
        "warmup.budget (set by warmup.budget=3) is not used by this run: shapes are named",
    ]
    (only,) = [notice for notice in resolved_run(words).draft.notices if "not used" in notice]
    assert only.startswith("warmup.budget") and only.endswith("the backend takes a range of sizes")
