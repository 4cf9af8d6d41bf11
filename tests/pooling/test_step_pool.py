"""Several steps at once: that they do run at once, that nothing is lost, and that one failing leaves the others."""

import os
import threading

import pytest
import torch

from sendnn_pipeline.messages import Part, RequestFailed, StepDone
from sendnn_pipeline.pooling.step_pool import StepPool
from tests.conftest import resolved_run
from tests.pooling.cores import Core
from tests.served import FLOAT32


def finite(ids):
    return torch.ones(len(ids), dtype=torch.bool)


@pytest.fixture
def serve(tiny):
    """Put requests to a core of so many steps at once, and return it when all are answered."""
    cores = []

    def serve(function, requests, steps):
        # Inductor, as it is what lets several steps run at once; nothing is compiled.
        words = [*FLOAT32, f"model.path={tiny}", "backend=inductor", "warmup.shapes=[16x1]"]
        run = resolved_run([*words, f"process.concurrent_steps={steps}"]).run
        core = Core(run, function)
        cores.append(core)
        for request_id, items in requests.items():
            core.put(request_id, items)
        core.drain()
        return core

    yield serve
    for core in cores:
        core.close()


def test_two_steps_meet(serve):
    meeting = threading.Barrier(2, timeout=10)

    def function(ids, mask):
        meeting.wait()
        return ids[:, :4].float(), finite(ids)

    core = serve(function, {1: [[5, 6, 7, 8]] * 4}, steps=2)
    assert sum(part.num_items for part in core.of(Part)) == len(core.of(StepDone)) == 4


def test_every_text_is_answered_with_its_own_vector_and_a_failing_one_fails_alone(serve):
    def function(ids, mask):
        if ids[0, 0] == 13:
            raise ValueError("unlucky")
        return ids[:, :2].float(), finite(ids)

    core = serve(function, {number: [[number, number + 1]] for number in range(1, 40)}, steps=3)
    for number in set(range(1, 40)) - {13}:
        (vector,) = core.vectors(number)
        assert vector.tolist() == [number, number + 1]
    (failed,) = core.of(RequestFailed)
    assert failed.request_id == 13 and "unlucky" in failed.detail and core.vectors(13) == []


def test_a_step_that_runs_alone_has_all_threads(serve):
    seen = []

    def function(ids, mask):
        seen.append(torch.get_num_threads())
        return ids[:, :2].float(), finite(ids)

    serve(function, {1: [[5, 6]]}, steps=2)
    assert seen == [2]
    del seen[:]
    serve(function, {1: [[5, 6]] * 3}, steps=2)
    # Two side by side have one each; the last finds the other still running, or gone.
    assert seen[:2] == [1, 1] and seen[2] in (1, 2)


def test_closing_ends_threads_and_gives_the_descriptor_back():
    pool, before = StepPool(2, 2), set(threading.enumerate())
    pool.start(lambda: 1, alone=True)
    (step,) = set(threading.enumerate()) - before
    pool.close()
    assert not step.is_alive()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pool.wake)
