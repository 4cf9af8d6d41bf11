"""What no step takes is refused at the engine's door, and a step that breaks is computed again without its culprit."""

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModel

from sendnn_pipeline.messages import Part, Request, RequestFailed, StepDone
from sendnn_pipeline.pooling.door import Door, Fault
from sendnn_pipeline.pooling.messages import PoolingRequest
from sendnn_pipeline.pooling.model import PooledModel
from tests.conftest import resolved_run
from tests.pooling.cores import Core
from tests.served import EAGER_FLOAT32

DOOR = Door(vocab_size=96, max_tokens=4)


@pytest.mark.parametrize(
    ("items", "offsets", "index", "code", "words"),
    [
        ([], [], -1, "empty_input", "no items"),
        ([[1], []], [], 1, "empty_input", "no tokens"),
        ([[1], [95, 96]], [], 1, "invalid_value", "token id 96; the vocabulary ends at 95"),
        ([[-1]], [], 0, "invalid_value", "token id -1"),
        ([[10**30]], [], 0, "invalid_value", "token id 1000"),
        ([[1], [1] * 5], [], 1, "context_length_exceeded", "5 tokens; the longest Program takes 4"),
        ([[1], [2]], [0], -1, "invalid_value", "2 items have 1 offsets"),
        ([[1], [2]], [0, 2], 1, "invalid_value", "begins at 2"),
    ],
)
def test_faults_are_named_by_item(items, offsets, index, code, words):
    fault = DOOR.find_fault(items, offsets)
    assert isinstance(fault, Fault) and (fault.index, fault.code) == (index, code) and words in fault.message


def test_what_fits_is_let_in():
    assert DOOR.find_fault([[0, 95], [1, 2, 3, 4]]) is None
    assert DOOR.find_fault([[0, 95], [1, 2, 3, 4]], [0, 3]) is None


@pytest.fixture
def run(tiny):
    return resolved_run([*EAGER_FLOAT32, f"model.path={tiny}", "warmup.shapes=[16x4,48x4]"]).run


@pytest.fixture
def serve(run, tiny):
    """Make a core whose Programs raise on some token ids."""
    model, made = PooledModel(AutoModel.from_pretrained(tiny).eval(), "mean"), []

    def serve(errors=None):
        def function(ids, mask):
            for token_id, error in (errors or {}).items():
                if (ids == token_id).any():
                    raise error
            return model(ids, mask)

        made.append(Core(run, function))
        return made[-1]

    yield serve
    for one in made:
        one.close()


def test_a_message_that_no_step_takes_is_refused_alone_whoever_sent_it(serve, run):
    core, vocab_size = serve(), run.model.vocab_size
    core.put(1, [[2, 3], [vocab_size]])
    core.put(2, [[2, 3], []])
    core.put(3, [[2] * 65])
    core.put(4, [])
    core.take(Request(5, float("inf"), msgspec.Raw(msgspec.msgpack.encode({"items": "text"}))))
    core.take(Request(6, float("inf"), msgspec.Raw(msgspec.msgpack.encode(PoolingRequest([[2, 3]], [3])))))
    core.put(7, [[2, 3]])
    core.drain()
    refused = [(one.request_id, one.reason, one.item) for one in core.of(RequestFailed)]
    assert refused == [(number, "refused", item) for number, item in ((1, 1), (2, 1), (3, 0), (4, -1), (5, -1), (6, 0))]
    assert len(core.vectors(7)) == 1 and {part.request_id for part in core.of(Part)} == {7}
    assert not core.remaining


@pytest.mark.parametrize(
    "error", [RuntimeError("index out of range in /srv/lib.so"), SystemExit(3), KeyboardInterrupt()]
)
def test_the_neighbours_of_an_item_that_breaks_its_step_are_computed_again(serve, error, caplog):
    core, alone = serve({13: error}), serve()
    core.put(1, [[2, 11, 3]])
    core.put(2, [[2, 12, 3], [2, 13, 3], [2, 12, 3]])
    core.put(3, [[2, 10, 3]])
    alone.put(3, [[2, 10, 3]])
    core.drain()
    alone.drain()
    (failed,) = core.of(RequestFailed)
    assert (failed.request_id, failed.reason, failed.item) == (2, "failed", 1)
    assert failed.message == "could not be computed" and type(error).__name__ in failed.detail
    assert len(core.vectors(1)) == 1 and np.array_equal(core.vectors(3), alone.vectors(3))
    # The step, and then each of its items once more at most.
    assert len(core.of(StepDone)) <= 1 + 4 + 1
    assert type(error).__name__ in caplog.text


def test_each_item_of_a_broken_engine_is_tried_twice_and_no_more(serve):
    core = serve({2: RuntimeError("broken")})
    for number in range(8):
        core.put(number, [[2, 5, 3]])
    core.drain()
    assert sorted(one.request_id for one in core.of(RequestFailed)) == list(range(8))
    assert len(core.of(StepDone)) == 2 + 8 and not core.remaining


def test_a_vector_of_another_kind_is_a_failure_of_its_step(run):
    core = Core(run, lambda ids, mask: (list(range(len(ids))), torch.ones(len(ids), dtype=torch.bool)))
    try:
        core.put(1, [[2, 3]])
        core.drain()
        assert [one.request_id for one in core.of(RequestFailed)] == [1]
    finally:
        core.close()
