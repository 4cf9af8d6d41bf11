"""What a machine says that does not serve: it follows node 0."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest

from sendnn_pipeline.app.nodes import follow_node
from sendnn_pipeline.config.schema import ParallelConfig, PipelineConfig, StageName
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import EngineLost, Ready

STAGES, READY = list(StageName), Ready([], True, 0, {})
LOST = EngineLost("node 0 is gone", 1, 3, 60.0)


class Following:
    """A session of the second node whose ranks get warm, and end after a signal."""

    def __init__(self, stages, *words):
        self.words = words
        self.lines, self.killed = [], False
        config = {
            "parallel": ParallelConfig(tensor_parallel=2, nnodes=2, node_rank=1),
            "process": SimpleNamespace(override_signal_handlers=True),
            "pipeline": PipelineConfig(stages=stages),
        }
        self.run, self.say = SimpleNamespace(config=SimpleNamespace(**config)), self.lines.append

    def start(self):
        return self

    def kill(self):
        self.killed = True

    async def follow(self, engine):
        yield READY
        for word in self.words:
            yield word
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("stages", "warm", "drained"),
    [
        (STAGES, "is warm; node 0 serves", "has drained"),
        (STAGES[:-1], "is warm", "is done"),
    ],
)
def test_it_says_that_node_0_serves_where_it_does(stages, warm, drained):
    session = Following(stages)
    asyncio.run(follow_node(session))
    assert session.killed and session.lines == [
        f"node 1 of 2 {warm}",
        f"node 1 of 2 ends with node 0, once that {drained}; a second signal ends it now",
        "node 1 of 2 is done, as node 0 is",
    ]


def test_a_first_signal_ends_it_while_it_is_started_again_and_no_longer():
    session = Following(STAGES, LOST)
    with pytest.raises(EngineError, match="node 1 of 2 was told to end before node 0"):
        asyncio.run(follow_node(session))
    assert session.killed and session.lines == ["node 1 of 2 is warm; node 0 serves"]
    again = Following(STAGES, LOST, READY)
    asyncio.run(follow_node(again))
    assert again.lines[-1] == "node 1 of 2 is done, as node 0 is"
