"""Several steps at once: that they do run at once, that nothing is lost, and that one failing leaves the others."""

import threading

import torch

from sendnn_pipeline.config.step_cost import StepCost
from sendnn_pipeline.messages import Refused, StepDone, Submit, Vectors
from sendnn_pipeline.pooling.batcher import Batcher
from sendnn_pipeline.pooling.engine import PoolingEngine
from sendnn_pipeline.pooling.function import FiniteRows
from sendnn_pipeline.pooling.runner import PoolingRunner
from sendnn_pipeline.pooling.streams import Streams
from sendnn_pipeline.programs.program import PoolProgram

PROGRAM = PoolProgram(16, 1)


def serve(function, requests, count):
    said = []
    engine = PoolingEngine(
        PoolingRunner({PROGRAM: function}, FiniteRows(), 0),
        Batcher({PROGRAM: StepCost(fixed_ms=1.0)}, 16),
        said.append,
    )
    for request in requests:
        engine.submit(request)
    with Streams(engine, count, threads=2) as streams:
        while not streams.idle:
            streams.fill()
            streams.wait()
            streams.collect()
    return said


def test_two_steps_meet():
    meeting = threading.Barrier(2, timeout=10)

    def function(ids, mask):
        meeting.wait()
        return ids[:, :4].float()

    said = serve(function, [Submit(1, [[5, 6, 7, 8]] * 4, float("inf"))], count=2)
    assert sum(len(message.indices) for message in said if isinstance(message, Vectors)) == 4
    assert len([message for message in said if isinstance(message, StepDone)]) == 4


def test_every_text_is_answered_with_its_own_vector_and_a_failing_one_fails_alone():
    def function(ids, mask):
        if ids[0, 0] == 13:
            raise ValueError("unlucky")
        return ids[:, :2].float()

    requests = [Submit(number, [[number, number + 1]], float("inf")) for number in range(1, 40)]
    said = serve(function, requests, count=3)
    vectors = {m.request_id: m.data for m in said if isinstance(m, Vectors)}
    assert vectors.keys() == set(range(1, 40)) - {13}
    for number, data in vectors.items():
        assert torch.frombuffer(bytearray(data), dtype=torch.float32).tolist() == [number, number + 1]
    (refused,) = [m for m in said if isinstance(m, Refused)]
    assert refused.request_id == 13 and "unlucky" in refused.message


def test_a_step_that_runs_alone_has_all_threads():
    seen = []

    def function(ids, mask):
        seen.append(torch.get_num_threads())
        return ids[:, :2].float()

    serve(function, [Submit(1, [[5, 6]], float("inf"))], count=2)
    assert seen == [2]
