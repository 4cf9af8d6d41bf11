"""Warmup, step by step: traced at the smallest, deployed at the largest, sealed, and timed or not."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.engines.plan import Plan, Step
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.pipeline.compile import CompiledEngine
from sendnn_pipeline.pipeline.warmup import MAX_RUNS, MIN_RUNS, ROUNDS, Warmup
from sendnn_pipeline.programs.program import Dim, Program
from sendnn_pipeline.programs.times import StepTimes

ONE = Program("one", (Dim("n", 8, 1),))
TWO = Program("two", (Dim("n", 4),))
STEPS = {ONE: (Step((1,), 1), Step((4,), 4), Step((8,), 8)), TWO: (Step((4,), 4),)}


class Device:
    """Backend, world and core in one: what happens in which order."""

    def __init__(self, ms=lambda number: 1.0, broken=(), runs_here=True):
        self.log, self.ms, self.broken, self.runs = [], ms, broken, 0
        self.limits, self.rank = Limits(runs=runs_here), 0

    @contextmanager
    def tracing(self):
        self.log.append("trace")
        yield
        self.log.append("traced")

    @contextmanager
    def stagger(self, limit):
        self.log.append(f"at most {limit} at once")
        yield
        self.log.append("the next rank")

    def broadcast(self, plan):
        return plan

    def seal(self):
        self.log.append("seal")

    def rehearse(self, program, sizes, *, check):
        self.log.append((program.function, *sizes, check))
        self.runs += 1
        # What a device gives while it traces is garbage; whoever checks it finds that out.
        if check and program in self.broken:
            raise EngineError(f"{program.name} gave garbage")
        return self.ms(self.runs)


def warm(device, tmp_path, *, num_compiled=1, remeasure=False, observed=None):
    run = SimpleNamespace(
        plan=Plan(steps=STEPS, max_input_tokens=8, unit="texts"),
        config=SimpleNamespace(
            parallel=SimpleNamespace(max_load_processes=3), warmup=SimpleNamespace(remeasure=remeasure)
        ),
        cache_dir=tmp_path,
        timing_prefix="here ",
    )
    events = [] if observed is None else observed
    return Warmup(device, device, events.append, StepTimes((tmp_path,))).run(CompiledEngine(run, device, num_compiled))


def test_all_are_traced_together_at_their_smallest_then_each_runs_at_its_largest_then_nothing_compiles(tmp_path):
    device = Device()
    warm(device, tmp_path)
    traced = ["trace", ("one", 1, False), ("two", 4, False), "at most 3 at once", "traced", "the next rank"]
    assert device.log[:6] == traced
    rest = device.log[6:]
    assert rest.pop() == "seal"
    # Each once, in the order of the traces, before any runs again.
    assert rest[:2] == [("one", 8, True), ("two", 4, True)]
    measured = [entry[0] for entry in rest[2:]]
    assert set(measured) == {"one", "two"} and measured == sorted(measured)
    assert all(check for *_, check in rest)


def test_what_only_compiles_is_traced_and_no_more(tmp_path):
    device = Device(runs_here=False)
    warmed = warm(device, tmp_path)
    assert device.log[-2:] == ["traced", "the next rank"] and not warmed.measured and not warmed.measured_steps()


def test_what_is_traced_is_never_checked_and_what_is_deployed_is(tmp_path):
    device = Device(broken=[TWO])
    with pytest.raises(EngineError, match="gave garbage"):
        warm(device, tmp_path)
    assert ("two", 4, False) in device.log and device.log[-1] == ("two", 4, True) and "seal" not in device.log


def test_steps_are_timed_several_times_and_the_least_counts(tmp_path):
    device = Device(ms=lambda number: 100.0 - number)
    warmed = warm(device, tmp_path)
    assert warmed.measured
    assert {program: set(times) for program, times in warmed.times.items()} == {
        program: {step.sizes for step in steps} for program, steps in STEPS.items()
    }
    runs = [entry for entry in device.log if entry == ("one", 4, True)]
    assert len(runs) == MAX_RUNS
    # Each run is a millisecond quicker than the last: traced 2, deployed 2, then five of each of its sizes.
    assert warmed.times[ONE] == {(1,): 91.0, (4,): 86.0, (8,): 81.0}
    steps = {(step.program, step.sizes["n"]): (step.num_tokens, step.ms) for step in warmed.measured_steps()}
    assert steps["one[n=1..8]", 4] == (4, 86.0) and steps["two[n=4]", 4][0] == 4


def test_long_steps_are_timed_less_often(tmp_path):
    device = Device(ms=lambda number: 10_000.0)
    warm(device, tmp_path)
    assert device.log.count(("one", 4, True)) == MIN_RUNS


RECORDED = {ONE.name: {(1,): 1.5, (4,): 2.5, (8,): 3.5}, TWO.name: {(4,): 4.5}}


@pytest.mark.parametrize(
    ("recorded", "more", "measured"),
    [
        (RECORDED, {"num_compiled": 0}, False),
        (RECORDED, {"num_compiled": 1}, True),
        (RECORDED, {"num_compiled": 0, "remeasure": True}, True),
        ({ONE.name: RECORDED[ONE.name]}, {"num_compiled": 0}, True),
        ({}, {"num_compiled": 0}, True),
    ],
)
def test_times_of_artifacts_are_those_that_were_recorded(tmp_path, recorded, more, measured):
    StepTimes((tmp_path,)).record("here ", recorded)
    StepTimes((tmp_path,)).record("there ", {ONE.name: {(1,): 99.0}})
    device = Device()
    warmed = warm(device, tmp_path, **more)
    assert warmed.measured == measured
    if measured:
        assert warmed.times[ONE][(8,)] == 1.0
    else:
        assert {program.name: dict(times) for program, times in warmed.times.items()} == recorded
        # Each ran twice all the same.
        assert [entry for entry in device.log if isinstance(entry, tuple)] == [
            ("one", 1, False),
            ("two", 4, False),
            ("one", 8, True),
            ("two", 4, True),
        ]


def test_observers_see_each_program_with_its_best_step(tmp_path):
    observed = []
    warm(Device(ms=lambda number: 2.0), tmp_path, observed=observed)
    ended = [(event.program, event.index, event.total, event.detail) for event in observed if event.state == "finished"]
    assert [event.stage for event in observed] == ["trace"] * 4 + ["deploy"] * 4 + ["warmup"] * 4
    assert ended[:4] == [("one[n=1..8]", 1, 2, ""), ("two[n=4]", 2, 2, "")] * 2
    assert ended[4:] == [
        ("one[n=1..8]", 1, 2, "2.0 ms at n=8, 4,000 tokens a second"),
        ("two[n=4]", 2, 2, "2.0 ms at n=4, 2,000 tokens a second"),
    ]


def test_times_of_a_busy_minute_are_measured_again(tmp_path):
    # Both timings of the smallest size; the rounds after it are quiet.
    device = Device(ms=lambda number: 337.0 if number in (5, 6) else 67.0)
    warmed = warm(device, tmp_path)
    assert warmed.times[ONE] == {(1,): 67.0, (4,): 67.0, (8,): 67.0}


def test_recorded_times_that_cannot_be_are_measured_again_and_no_others(tmp_path):
    StepTimes((tmp_path,)).record("here ", {**RECORDED, ONE.name: {(1,): 337.0, (4,): 60.0, (8,): 67.0}})
    for measured in (True, False):
        warmed = warm(Device(), tmp_path, num_compiled=0)
        assert warmed.measured == measured and warmed.times[ONE] == {(1,): 1.0, (4,): 60.0, (8,): 67.0}


def test_what_stays_so_is_measured_a_few_times_and_kept(tmp_path):
    class Odd(Device):
        def rehearse(self, program, sizes, *, check):
            super().rehearse(program, sizes, check=check)
            return 10.0 if sizes == (1,) else 1.0

    device = Odd()
    assert warm(device, tmp_path).times[ONE][(1,)] == 10.0
    assert device.log.count(("one", 1, True)) == MAX_RUNS * (1 + ROUNDS)
