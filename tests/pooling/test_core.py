"""The engine's core in this process: answers, failures that stay alone, vectors that depend on no batch-mate."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Cancel, Part, RequestFailed, StepDone, StepStarted
from sendnn_pipeline.pooling.core import open_core
from sendnn_pipeline.pooling.model import PooledModel
from tests.conftest import resolved_run
from tests.pooling.cores import Core
from tests.served import EAGER_FLOAT32

SHAPES = "warmup.shapes=[16x4,48x4]"


@pytest.fixture(scope="module")
def run(tiny):
    return resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", SHAPES]).run


@pytest.fixture(scope="module")
def function(tiny):
    return PooledModel(AutoModel.from_pretrained(tiny).eval(), "mean")


@pytest.fixture
def core(run):
    made = []

    def make(function, clock=lambda: 1.0):
        made.append(Core(run, function, clock))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_request_spread_over_steps_is_whole(core, function):
    one = core(function)
    items = [[2, 11, 3]] * 6 + [list(range(2, 42))] * 2
    one.put(1, items)
    one.drain()
    assert len(one.vectors(1)) == 8
    steps, parts = one.of(StepDone), one.of(Part)
    assert sum(step.real_tokens for step in steps) == sum(map(len, items))
    assert sum(step.num_items for step in steps) == sum(part.num_items for part in parts) == 8
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [started.request_ids for started in one.of(StepStarted)] == [[1]] * len(steps)
    # What a request is told of its padding is what the steps computed too much for its own rows.
    computed = {"pool[batch=4,len=16]": 16, "pool[batch=4,len=48]": 48}
    assert sum(p.padding_tokens for p in parts) == sum(computed[p.program] * p.num_items for p in parts) - 98


def test_vectors_are_bitwise_the_same_whatever_the_batch_mates(core, function):
    text = [2, 11, 12, 20, 3]
    alone = core(function)
    alone.put(1, [text])
    alone.drain()
    for mates in ([[5] * 16] * 3, [[2, 3]] * 3):
        one = core(function)
        one.put(1, [text])
        one.put(2, mates)
        one.drain()
        assert np.array_equal(one.vectors(1)[0], alone.vectors(1)[0])


def test_a_passed_deadline_is_refused_and_the_others_go_on(core, function):
    one = core(function, clock=lambda: 10.0)
    one.put(1, [[2, 3]], deadline=9.0)
    one.put(2, [[2, 3]], deadline=11.0)
    one.drain()
    assert [(m.request_id, m.reason) for m in one.of(RequestFailed)] == [(1, "deadline")]
    assert len(one.vectors(2)) == 1


def test_a_request_that_is_cancelled_is_not_computed_and_one_that_runs_is_dropped(core):
    hold = torch.zeros(4, 4), torch.ones(4, dtype=torch.bool)
    one = core(lambda ids, mask: hold)
    for request_id in (1, 2):
        one.put(request_id, [[2, 3]] * 4)
    one.step()
    one.take(Cancel(1))
    one.take(Cancel(2))
    one.take(Cancel(3))
    one.drain()
    # One step had begun with the first: it is computed and accounted for, and nobody is told of it.
    assert one.of(Part) == [] and one.of(RequestFailed) == []
    assert [step.num_items for step in one.of(StepDone)] == [4]


def test_a_vector_that_is_not_finite_names_its_index_and_only_its_request_fails(core, function):
    def broken(ids, mask):
        vectors, _ = function(ids, mask)
        vectors[ids[:, 1] == 13] = torch.nan
        return vectors, vectors.isfinite().all(dim=1)

    one = core(broken)
    one.put(1, [[2, 11, 3], [2, 13, 3], [2, 12, 3], [2, 12, 3], [2, 12, 3]])
    one.put(2, [[2, 12, 3]])
    one.drain()
    (failed,) = one.of(RequestFailed)
    assert (failed.request_id, failed.reason, failed.item) == (1, "failed", 1) and "not finite" in failed.message
    assert len(one.vectors(2)) == 1 and one.vectors(1) == []


def test_a_step_that_raises_fails_its_requests_and_the_engine_lives(core, function):
    calls = []

    def flaky(ids, mask):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("Detected recompile when torch.compile stance is 'fail_on_recompile'")
        return function(ids, mask)

    one = core(flaky)
    one.put(1, [[2, 3]])
    one.drain()
    one.put(2, [[2, 3]])
    one.drain()
    (failed,) = one.of(RequestFailed)
    assert failed.request_id == 1 and "Detected recompile" in failed.detail and "pool[batch=4" in failed.detail
    assert [step.recompiles for step in one.of(StepDone)] == [1, 1]
    assert len(one.vectors(2)) == 1


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (lambda ids: (torch.zeros(len(ids), 31), torch.ones(len(ids), dtype=torch.bool)), r"gave \(4, 31\)"),
        (lambda ids: (torch.zeros(len(ids), 32), torch.arange(len(ids)) > 0), "1 rows not finite"),
    ],
)
def test_what_was_not_planned_is_found_when_it_counts(core, run, gives, words):
    one, program = core(lambda ids, mask: gives(ids)), run.plan.programs[0]
    assert one.rehearse(program, (4, 16), check=False) > 0
    with pytest.raises(EngineError, match=words):
        one.rehearse(program, (4, 16), check=True)


def test_a_run_s_own_programs_on_the_eager_backend(run):
    """The path that a rank takes: graphs, compiling, binding, rehearsing."""
    core = open_core(run, World())
    backend = EagerBackend(BackendConfig(name="eager"))
    try:
        core.install({program: backend.compile(core.graph(program)) for program in run.plan.programs})
        for program, steps in run.plan.steps.items():
            assert core.rehearse(program, steps[-1].sizes, check=True) > 0
        assert core.about()["torch"] == torch.__version__ and core.about()["threads"] == torch.get_num_threads()
    finally:
        core.close()


def test_a_step_that_fails_is_logged_with_its_requests_and_its_traceback(core, function, caplog):
    def broken(*inputs):
        raise RuntimeError("no memory")

    one = core(broken)
    one.put(1, [[2, 11, 3]], name="mine")
    one.drain()
    (record,) = caplog.records
    assert (
        record.levelname == "ERROR" and record.exc_info[0] is RuntimeError and record.fields["request_ids"] == ["mine"]
    )
    assert record.getMessage() == "pool[batch=4,len=16] failed"
    caplog.set_level("DEBUG")
    two = core(function)
    two.put(1, [[2, 11, 3]] * 2, name="yours")
    two.drain()
    *_, record = caplog.records
    assert record.levelname == "DEBUG" and record.getMessage() == "pool[batch=4,len=16] ran"
    assert record.fields.items() >= {"texts": 2, "tokens": 6, "request_ids": ["yours"]}.items()
