"""The spawned processes of one engine, seen from their parent."""

import asyncio
import multiprocessing
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sendnn_pipeline.distributed import worker
from sendnn_pipeline.distributed.channel import Place
from sendnn_pipeline.distributed.port import AsyncPort, new_address
from sendnn_pipeline.distributed.rank_process import RankProcess
from sendnn_pipeline.distributed.rendezvous import bind_rendezvous
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import Fatal, FromEngine, ToEngine
from sendnn_pipeline.paths import expand_path

# How long to listen after a first failure: ranks fail because another did, and that one is what counts.
FIRST_CAUSE_SECONDS = 1.0
DEATH, FAILURE = 0, 1


@dataclass(frozen=True, order=True)
class _End:
    """How a rank failed; what sorts first is the cause. One that was killed told nobody, and others fail of it."""

    kind: int
    at: float
    rank: int
    message: str
    hint: str = ""
    exit_code: int = 1


@dataclass
class Ranks:
    """The engine's processes and the ports to them; requests go to the first."""

    ranks: Sequence[RankProcess]

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

    async def end(self) -> None:
        """End the processes as ``kill`` does, while the event loop goes on."""
        for rank in self.ranks:
            rank.end_group()
        for rank in self.ranks:
            await asyncio.to_thread(rank.join)
            rank.close()

    async def send(self, message: ToEngine) -> None:
        """Queue a message to the engine."""
        await self.ranks[0].port.send(message)

    async def messages(self) -> AsyncIterator[FromEngine]:
        """Yield what the ranks send, until all their processes end.

        Raises:
            EngineError: one reported a failure, or died; of several the first.
        """
        received: asyncio.Queue[FromEngine | _End | None] = asyncio.Queue()
        reading = [asyncio.create_task(_read(rank, received)) for rank in self.ranks]
        try:
            for _ in self.ranks:
                while (message := await received.get()) is not None:
                    if isinstance(message, _End):
                        raise self._error(await _first_cause(message, received))
                    yield message
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    def _error(self, end: _End) -> EngineError:
        many = len(self.ranks) > 1
        if end.kind == FAILURE:
            error = EngineError(f"rank {end.rank}: {end.message}" if many else end.message)
        else:
            which = f"the process of rank {end.rank}" if many else "the engine process"
            error = EngineError(f"{which} {end.message}", hint=end.hint)
        error.exit_code = end.exit_code
        return error


async def _read(rank: RankProcess, received: "asyncio.Queue[FromEngine | _End | None]") -> None:
    """Hand on what a rank sends; None stands for its end."""
    try:
        async for message in rank.messages():
            if isinstance(message, Fatal):
                received.put_nowait(_End(FAILURE, message.at, rank.rank, message.message, "", message.exit_code))
            else:
                received.put_nowait(message)
    except EngineError as error:
        received.put_nowait(_End(DEATH, 0.0, rank.rank, error.message, error.hint))
    received.put_nowait(None)


async def _first_cause(first: _End, received: "asyncio.Queue[FromEngine | _End | None]") -> _End:
    """Return the failure that others may have followed from."""
    ends = [first]
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_CAUSE_SECONDS):
            while True:
                message = await received.get()
                if isinstance(message, _End):
                    ends.append(message)
    return min(ends)


def start_ranks(job: str, run: Run, environment: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Ranks:
    """Spawn the processes that run ``job`` (``module:function``), ``environment`` set before torch is imported.

    Args:
        job: of every rank.
        run: that they run.
        environment: that they get beside this process's own.
        environ: this process's own, which may say where ranks meet.

    Raises:
        EngineError: there is no folder for temporary files or for logs, or no place to meet.
    """
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise EngineError(
            "there is no folder for temporary files", hint="set TMPDIR to one that can be written"
        ) from None
    parallel = run.config.parallel
    size, minutes = parallel.tensor_parallel, parallel.gloo_timeout_minutes
    logs = [_log_file(parallel.worker_log_dir, rank) for rank in range(size)]
    rendezvous = bind_rendezvous(environ or {}, minutes) if size > 1 else None
    place = Place(new_address(), minutes * 60.0)
    others = replace(rendezvous, listening=None) if rendezvous is not None else None
    try:
        return Ranks(
            [
                _start(
                    job,
                    run,
                    worker.Seat(
                        rank=rank,
                        size=size,
                        address=new_address(),
                        place=place,
                        rendezvous=others if rank else rendezvous,
                        scratch=temporary / f"sendnn-{secrets.token_hex(8)}",
                        log_file=log,
                    ),
                    environment,
                )
                for rank, log in enumerate(logs)
            ]
        )
    finally:
        if rendezvous is not None and rendezvous.listening is not None:
            # The first rank has it now.
            rendezvous.listening.close()


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


def _start(job: str, run: Run, seat: worker.Seat, environment: Mapping[str, str]) -> RankProcess:
    port = AsyncPort(seat.address)
    own = {"TMPDIR": str(seat.scratch), **seat.variables()}
    process = multiprocessing.get_context("spawn").Process(
        target=worker.main,
        args=(job, run, seat, {**environment, **own}),
        name=f"sendnn-rank-{seat.rank}",
        daemon=True,
    )
    process.start()
    return RankProcess(seat.rank, process, port, seat.scratch)
