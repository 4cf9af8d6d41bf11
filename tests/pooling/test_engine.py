"""The engine in this process: answers, isolation of failures, bitwise independence of batch-mates."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.config.step_cost import StepCost
from sendnn_pipeline.messages import Refused, StepDone, Submit, Vectors
from sendnn_pipeline.pooling.batcher import Batcher
from sendnn_pipeline.pooling.engine import PoolingEngine
from sendnn_pipeline.pooling.function import FiniteRows, PoolFunction
from sendnn_pipeline.pooling.runner import PoolingRunner
from sendnn_pipeline.programs.program import PoolProgram

SHORT, LONG = PoolProgram(16, 4), PoolProgram(48, 4)
COSTS = {SHORT: StepCost(fixed_ms=1.0), LONG: StepCost(fixed_ms=3.0)}


@pytest.fixture
def function(tiny):
    return PoolFunction(AutoModel.from_pretrained(tiny).eval(), "mean", True)


def make(function, clock=None):
    said = []
    runner = PoolingRunner({SHORT: function, LONG: function}, FiniteRows(), 0)
    engine = PoolingEngine(runner, Batcher(COSTS, 192), said.append, clock or (lambda: 1.0))
    return engine, said


def drain(engine):
    while engine.waiting:
        engine.step()


def vectors_of(said, request_id):
    parts = [message for message in said if isinstance(message, Vectors) and message.request_id == request_id]
    rows = {}
    for part in parts:
        data = np.frombuffer(part.data, dtype="<f4").reshape(-1, part.dimensions)
        rows.update(zip(part.indices, data, strict=True))
    return [rows[index] for index in sorted(rows)]


def test_a_request_spread_over_steps_is_whole(function):
    engine, said = make(function)
    items = [[2, 11, 3]] * 6 + [list(range(2, 42))] * 2
    engine.submit(Submit(1, items, 100.0))
    drain(engine)
    assert len(vectors_of(said, 1)) == 8
    steps = [message for message in said if isinstance(message, StepDone)]
    assert sum(step.real_tokens for step in steps) == sum(map(len, items))
    assert sum(step.num_items for step in steps) == 8


def test_vectors_are_bitwise_the_same_whatever_the_batch_mates(function):
    text = [2, 11, 12, 20, 3]
    alone, said_alone = make(function)
    alone.submit(Submit(1, [text], 100.0))
    drain(alone)
    for mates in ([[5] * 16] * 3, [[2, 3]] * 3):
        engine, said = make(function)
        engine.submit(Submit(1, [text], 100.0))
        engine.submit(Submit(2, mates, 100.0))
        drain(engine)
        assert np.array_equal(vectors_of(said, 1)[0], vectors_of(said_alone, 1)[0])


def test_a_passed_deadline_is_refused_and_the_others_go_on(function):
    engine, said = make(function, clock=lambda: 10.0)
    engine.submit(Submit(1, [[2, 3]], 9.0))
    engine.submit(Submit(2, [[2, 3]], 11.0))
    drain(engine)
    assert [(m.request_id, m.reason) for m in said if isinstance(m, Refused)] == [(1, "deadline")]
    assert len(vectors_of(said, 2)) == 1


def test_a_vector_that_is_not_finite_names_its_index_and_only_its_request_fails(function):
    def broken(ids, mask):
        vectors = function(ids, mask)
        vectors[ids[:, 1] == 13] = torch.nan
        return vectors

    engine, said = make(broken)
    engine.submit(Submit(1, [[2, 11, 3], [2, 13, 3]], 100.0))
    engine.submit(Submit(2, [[2, 12, 3]], 100.0))
    drain(engine)
    (refused,) = [message for message in said if isinstance(message, Refused)]
    assert (refused.request_id, refused.index) == (1, 1) and "not finite" in refused.message
    assert len(vectors_of(said, 2)) == 1


def test_a_step_that_raises_fails_its_requests_and_the_engine_lives(function):
    calls = []

    def flaky(ids, mask):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("Detected recompile when torch.compile stance is 'fail_on_recompile'")
        return function(ids, mask)

    engine, said = make(flaky)
    engine.submit(Submit(1, [[2, 3]], 100.0))
    drain(engine)
    engine.submit(Submit(2, [[2, 3]], 100.0))
    drain(engine)
    assert [m.request_id for m in said if isinstance(m, Refused)] == [1] and engine.recompiles == 1
    assert len(vectors_of(said, 2)) == 1
