"""The serve target ``batch``: a file of texts through the engine, without HTTP."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.batch.identity import check_output, identity_of
from sendnn_pipeline.batch.progress import Progress, read_progress
from sendnn_pipeline.batch.report import Reporter, check_any_good, describe
from sendnn_pipeline.batch.sink import Answer, Sink
from sendnn_pipeline.batch.source import Source, open_source
from sendnn_pipeline.batch.work import Work, row_size
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError, ServeError, counted
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.paths import expand_path

# Chunks that the engine has at once: it must never wait for the next one to be read and tokenized.
CHUNKS_AHEAD = 3
FORMATS = (".jsonl", ".npy")
GO_ON = "run the same command again to go on"
START_OVER = "its input is a pipe: start over with serve.overwrite=true"


@dataclass
class BatchTarget:
    """Answers every line of ``serve.input`` in ``serve.output``."""

    ends = True
    keys: tuple[str, ...] = ()
    work: Work | None = field(default=None, init=False)

    def prepare(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Look at both files, so that both are known to work before weights are loaded."""
        source, output, size_of_rows = _files(run, endpoints)
        progress = _progress(run, source, output)
        sink = Sink(output, size_of_rows or 0, progress, START_OVER if source.is_pipe else GO_ON)
        self.work = Work(source, sink, _options(run), endpoints, load_tokenizer(run.model.folder))

    def check(self, run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> None:
        """Refuse what ``prepare`` would, and read no weights for the record of an output that is not there yet."""
        source, output, _ = _files(run, endpoints)
        if output.exists():
            _progress(run, source, output)

    def run(self, session: Session) -> None:
        """Work through the file, from where an earlier run was stopped."""
        work = self.work
        assert work is not None
        if work.sink.progress.done:
            session.say(f"{work.sink.output} is whole already: {describe(work.sink)}")
        else:
            self._go_on(session, work)
        check_any_good(work.source.name, work.sink)

    def _go_on(self, session: Session, work: Work) -> None:
        work.sink.open()
        if work.source.is_pipe:
            session.say(f"note: serve.input={work.source.name} is a pipe: a run that is stopped has to start over")
        if work.sink.progress.next_line > 1:
            session.say(f"going on at line {work.sink.progress.next_line} of {work.source.file}")
        try:
            asyncio.run(_run(session, work))
        finally:
            work.sink.close()


def _options(run: Run) -> BatchConfig:
    assert isinstance(run.config.serve, BatchConfig)
    return run.config.serve


def _files(run: Run, endpoints: Mapping[str, Endpoint[Any]]) -> tuple[Source, Path, int | None]:
    """Return the input, the output, and the numbers of each row of an array.

    Raises:
        ConfigError: one is not named, or cannot be used.
    """
    options = _options(run)
    source = open_source(options.input)
    if not options.output:
        raise ConfigError("serve.output is not set", hint="name the file of answers with serve.output=FILE")
    output = expand_path(options.output, "serve.output")
    if output.suffix not in FORMATS:
        raise ConfigError(
            f"serve.output={options.output} ends in none of {', '.join(FORMATS)}", hint="give it one of those"
        )
    check_output(source, output)
    size_of_rows = row_size(endpoints, run)
    if output.suffix == ".npy" and size_of_rows is None:
        raise ConfigError(
            f"serve.output={options.output} is an array, and the engine {run.config.engine.name} gives no rows",
            hint="use a .jsonl file",
        )
    return source, output, size_of_rows


def _progress(run: Run, source: Source, output: Path) -> Progress:
    options = _options(run)
    identity = identity_of(source, run, options)
    return read_progress(output, identity, overwrite=options.overwrite, is_pipe=source.is_pipe)


async def _run(session: Session, work: Work) -> None:
    """Start the engine; once it is ready, feed it."""
    task, stopped = asyncio.current_task(), asyncio.Event()
    assert task is not None

    def stop() -> None:
        stopped.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        async with session.warm_engine(work.tokenizer) as engine:
            await _feed(session, engine.front, work)
    except asyncio.CancelledError:
        if stopped.is_set():
            raise ServeError("stopped", hint=work.sink.go_on) from None
        # Ctrl-C.
        session.say(f"stopped; {work.sink.go_on}")
        raise


async def _feed(session: Session, front: Frontend, work: Work) -> None:
    began, first = time.monotonic(), work.sink.progress
    real_tokens = 0
    chunks = work.source.chunks(first.input_offset, first.next_line, work.options.chunk_lines)
    ahead: deque[asyncio.Task[list[Answer]]] = deque()
    reporter = Reporter(session.say, work)
    with reporter.bar:
        try:
            while True:
                while len(ahead) < CHUNKS_AHEAD and (chunk := await anext(chunks, None)):
                    ahead.append(asyncio.create_task(work.answer(front, chunk)))
                if not ahead:
                    break
                answers = await ahead.popleft()
                real_tokens += sum(answer.num_tokens for answer in answers)
                await asyncio.to_thread(work.sink.write, answers)
                reporter.show()
        finally:
            for task in ahead:
                task.cancel()
            # They tell the engine, so they end before it does.
            await asyncio.gather(*ahead, return_exceptions=True)
    work.sink.finish()
    seconds = time.monotonic() - began
    lines = work.sink.progress.num_lines - first.num_lines
    session.say(
        f"{work.sink.output}: {describe(work.sink)}; {counted(lines, 'line')} in {seconds:.1f} s, "
        f"{lines / seconds:.1f} lines and {real_tokens / seconds:,.0f} tokens a second"
    )
