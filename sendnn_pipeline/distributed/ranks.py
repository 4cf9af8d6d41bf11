"""The spawned processes of one engine, seen from their parent."""

import asyncio
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sendnn_pipeline.config.schema import ParallelConfig
from sendnn_pipeline.distributed import worker
from sendnn_pipeline.distributed.channel import ChannelAddress
from sendnn_pipeline.distributed.ends import DEATH, DONE, FAILURE, OTHER_NODE, End, Received, first_cause
from sendnn_pipeline.distributed.link import Link
from sendnn_pipeline.distributed.nodes import Node, describe_run
from sendnn_pipeline.distributed.port import AsyncPort, new_address
from sendnn_pipeline.distributed.rank_process import RankProcess
from sendnn_pipeline.distributed.rendezvous import Rendezvous, address_of, bind_rendezvous, meet_nodes
from sendnn_pipeline.distributed.standby import Standby
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.messages import Fatal, FromEngine, Joined, ToEngine
from sendnn_pipeline.paths import expand_path

# How long ranks may take to end after node 0 did.
LET_GO_SECONDS = 5.0


@dataclass
class Ranks:
    """The engine's processes and the ports to them; requests go to the first."""

    ranks: list[RankProcess]
    link: Link = field(default_factory=Link)
    """To other machines."""

    @property
    def pid(self) -> int:
        """The process of the first rank."""
        return self.ranks[0].pid

    def kill(self) -> None:
        """End the processes, and what they started, at once; nothing of theirs stays in the temporary folder."""
        for rank in self.ranks:
            rank.end_group()
        for rank in self.ranks:
            rank.close()
        self.link.close()

    async def end(self) -> None:
        """End the processes as ``kill`` does, while the event loop goes on."""
        for rank in self.ranks:
            rank.end_group()
        for rank in self.ranks:
            await asyncio.to_thread(rank.join)
            rank.close()
        self.link.close()

    async def send(self, message: ToEngine) -> None:
        """Queue a message to the engine."""
        await self.ranks[0].port.send(message)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the ranks send, until all their processes end.

        Raises:
            EngineError: one reported a failure, or died, or another machine did; of several the first.
        """
        received: Received = asyncio.Queue()
        reading = [asyncio.create_task(_read(rank, received)) for rank in self.ranks]
        reading += [asyncio.create_task(self._hear(node, received)) for node in self.link.nodes]
        try:
            for _ in self.ranks:
                while (message := await received.get()) is not None:
                    if isinstance(message, str):
                        assert message == DONE
                        return
                    if isinstance(message, End):
                        end = await first_cause(message, received)
                        many = len(self.ranks) > 1 or bool(self.link.nodes)
                        await self.link.say(str(end.as_error(many=many)))
                        # Not by a name: this frame and its error would have each other, and the processes' descriptors.
                        raise end.as_error(many=many)
                    if isinstance(message, Joined):
                        self.link.connect(message.link)
                        reading.append(asyncio.create_task(self._hear(0, received)))
                    else:
                        yield message
            await self.link.say("")
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _hear(self, node: int, received: Received) -> None:
        """Hand on how another machine ends, where that is this one's end, too."""
        if reason := await self.link.end_of(node):
            received.put_nowait(End(OTHER_NODE, time.monotonic(), node, reason))
        elif node == 0:
            # Ranks here were let go, unless node 0 did not wait for its own.
            await asyncio.sleep(LET_GO_SECONDS)
            received.put_nowait(DONE)


async def _read(rank: RankProcess, received: Received) -> None:
    """Hand on what a rank sends; None stands for its end."""
    try:
        async for message in rank.messages():
            if isinstance(message, Fatal):
                end = End(FAILURE, message.at, rank.rank, message.message, "", message.exit_code, message.is_final)
                received.put_nowait(end)
            else:
                received.put_nowait(message)
    except EngineError as error:
        received.put_nowait(End(DEATH, rank.ended_at, rank.rank, error.message, error.hint))
    received.put_nowait(None)


def start_ranks(
    job: str,
    run: Run,
    environment: Mapping[str, str],
    environ: Mapping[str, str] | None = None,
    standby: Standby | None = None,
) -> Ranks:
    """Spawn the processes that run ``job`` (``module:function``), ``environment`` set before torch is imported.

    Args:
        job: of every rank.
        run: that they run.
        environment: that they get beside this process's own.
        environ: this process's own, which may say where ranks meet.
        standby: a process that becomes the first rank where it suits the run.

    Raises:
        EngineError: there is no folder for temporary files or for logs, or no place to meet, or a process cannot be
            started. Nothing of the others stays then.
    """
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise EngineError(
            "there is no folder for temporary files", hint="set TMPDIR to one that can be written"
        ) from None
    parallel = run.config.parallel
    ranks = Ranks([], Link("" if parallel.node_rank == 0 else "it was told to end"))
    logs = {rank: _log_file(parallel.worker_log_dir, rank) for rank in parallel.local_ranks}
    try:
        with ExitStack() as bound, ExitStack() as failed:
            failed.callback(ranks.kill)
            rendezvous = _rendezvous(environ or {}, parallel)
            if rendezvous is not None and rendezvous.listening is not None:
                # The first rank has it once it is started.
                bound.enter_context(rendezvous.listening)
            node = _node(run, rendezvous, ranks.link) if rendezvous is not None and parallel.nnodes > 1 else None
            place = ChannelAddress(new_address(), parallel.gloo_timeout_minutes * 60.0)
            others = replace(rendezvous, listening=None) if rendezvous is not None else None
            for rank, log in logs.items():
                seat = worker.Seat(
                    rank=rank,
                    size=parallel.tensor_parallel,
                    address=new_address(),
                    place=place,
                    rendezvous=others if rank else rendezvous,
                    scratch=temporary / f"sendnn-{secrets.token_hex(8)}",
                    log_file=log,
                    local_rank=rank - parallel.local_ranks.start,
                    node=node,
                )
                ranks.ranks.append(_start(job, run, seat, environment, None if ranks.ranks else standby))
            failed.pop_all()
    except OSError as error:
        raise EngineError(
            f"the engine's processes cannot be started: {error}", hint="this user's limits (ulimit -a) may say why"
        ) from error
    return ranks


def _rendezvous(environ: Mapping[str, str], parallel: ParallelConfig) -> Rendezvous | None:
    """Return where ranks meet, where there are several."""
    if parallel.nnodes > 1:
        return meet_nodes(environ, parallel)
    return bind_rendezvous(environ, parallel.gloo_timeout_minutes) if parallel.tensor_parallel > 1 else None


def _node(run: Run, rendezvous: Rendezvous, link: Link) -> Node:
    """Return this machine; node 0 listens for each of the others."""
    parallel = run.config.parallel
    others = () if parallel.node_rank else range(1, parallel.nnodes)
    links = {other: link.listen(other, address_of(rendezvous.host)) for other in others}
    return Node(
        parallel.node_rank,
        parallel.nnodes,
        str(rendezvous),
        describe_run(run),
        parallel.join_timeout_seconds,
        links,
    )


def _log_file(folder: str, rank: int) -> Path | None:
    """Return the file for what a rank prints, which is made now, so that a wrong folder is an error of the start."""
    if not folder:
        return None
    file = expand_path(folder, "parallel.worker_log_dir") / f"rank-{rank}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise EngineError(
            f"parallel.worker_log_dir: {file} cannot be written: {error.strerror}", hint="name another folder"
        ) from None
    return file


def _start(
    job: str, run: Run, seat: worker.Seat, environment: Mapping[str, str], standby: Standby | None
) -> RankProcess:
    port = AsyncPort(seat.address)
    variables = {**environment, **seat.variables()}
    arguments, name = (job, run, seat, environment), f"sendnn-rank-{seat.rank}"
    try:
        process = standby.take(arguments, {**process_environment(), **variables}) if standby is not None else None
        if process is None:
            spawn = multiprocessing.get_context("spawn")
            process = spawn.Process(target=worker.main, args=arguments, name=name, daemon=True)
            process.start()
    except BaseException:
        port.close()
        raise
    return RankProcess(seat.rank, process, port, seat.scratch)
