"""A run on several machines: what it takes to be one, and what the machines do that do not serve."""

import asyncio
import signal
from collections.abc import Mapping

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import StageName
from sendnn_pipeline.distributed.rendezvous import meeting_address
from sendnn_pipeline.errors import ConfigError, EngineError
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.messages import EngineLost, Ready

RANKS, NODES, NODE = "parallel.tensor_parallel", "parallel.nnodes", "parallel.node_rank"
OF_SEVERAL = (NODE, "parallel.rendezvous", "parallel.join_timeout_seconds")


def check_nodes(draft: Draft, environ: Mapping[str, str]) -> None:
    """Refuse a run whose ranks are not to be had on as many machines.

    Raises:
        ConfigError: the ranks do not divide, this machine has no number among them, or nothing says where they meet.
    """
    ranks, nodes, node = draft[RANKS], draft[NODES], draft[NODE]
    if nodes == 1 and not node:
        for key in OF_SEVERAL:
            draft.note_unused(key, "the run is on one machine")
        return
    if node >= nodes:
        raise ConfigError(
            f"{NODE}={node}, and there are {NODES}={nodes} machines",
            where=draft.where(NODE),
            hint=f"use 0 to {nodes - 1}",
        )
    if ranks % nodes:
        raise ConfigError(
            f"{NODES}={nodes} does not divide {RANKS}={ranks}",
            where=draft.where(NODES),
            hint=f"{RANKS} counts those of all machines; use a multiple of {nodes}",
        )
    meeting_address(environ, draft["parallel.rendezvous"])


async def follow_node(session: Session) -> None:
    """Run the ranks of another machine than the first until that one ends: it does its stages, or drains when told to.

    Raises:
        EngineError: a rank failed, here or there, or this machine was told twice to end, or once while it is started
            again.
    """
    parallel, loop = session.run.config.parallel, asyncio.get_running_loop()
    name = f"node {parallel.node_rank} of {parallel.nnodes}"
    told, lost = asyncio.Event(), asyncio.Event()
    serves = StageName.serve in session.run.config.pipeline.stages

    def on_signal() -> None:
        if told.is_set() or lost.is_set():
            # Node 0 may not be there to end with.
            told.set()
            following.cancel()
        else:
            told.set()
            when = "has drained" if serves else "is done"
            session.say(f"{name} ends with node 0, once that {when}; a second signal ends it now")

    async def follow() -> None:
        async for message in session.follow(engine):
            if isinstance(message, EngineLost):
                lost.set()
            elif isinstance(message, Ready):
                lost.clear()
                session.say(f"{name} is warm; node 0 serves" if serves else f"{name} is warm")

    engine = session.start()
    following = asyncio.create_task(follow())
    if session.run.config.process.override_signal_handlers:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
    try:
        await following
    except asyncio.CancelledError:
        if not told.is_set():
            raise
        raise EngineError(f"{name} was told to end before node 0") from None
    finally:
        engine.kill()
    session.say(f"{name} is done, as node 0 is")
