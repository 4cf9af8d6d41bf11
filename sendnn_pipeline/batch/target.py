"""The serve target ``batch``: a file of texts through the engine, without HTTP."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.batch.lines import Line, open_input, read_lines
from sendnn_pipeline.batch.sink import Answer, Sink, read_progress
from sendnn_pipeline.batch.work import Work, answer_lines
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.rank import Rank
from sendnn_pipeline.distributed.target import Session
from sendnn_pipeline.errors import ConfigError, ServeError
from sendnn_pipeline.messages import Ready
from sendnn_pipeline.server.engine_client import EngineClient
from sendnn_pipeline.server.state import state_over
from sendnn_pipeline.server.tokenizer import load_tokenizer

# Chunks that the engine has at once: it must never wait for the next one to be read and tokenized.
CHUNKS_AHEAD = 3
SAID_EVERY_SECONDS = 10.0
FORMATS = (".jsonl", ".npy")


@dataclass
class BatchTarget:
    """Answers every line of ``serve.input`` in ``serve.output``."""

    ends = True
    work: Work | None = field(default=None, init=False)

    def claim(self, run: Run) -> None:
        """Open both files, so that both are known to work before weights are loaded."""
        options = run.config.serve
        assert isinstance(options, BatchConfig)
        file, size = open_input(options.input)
        if not options.output:
            raise ConfigError("serve.output is not set", hint="name the file of vectors with serve.output=FILE")
        output = Path(options.output).expanduser()
        if output.suffix not in FORMATS:
            raise ConfigError(f"serve.output={options.output} is of no known form", hint=f"use {' or '.join(FORMATS)}")
        if options.chunk_lines < 1:
            raise ConfigError(f"serve.chunk_lines={options.chunk_lines} must be 1 or more")
        identity: dict[str, Any] = {
            "serve.input": str(file.absolute()),
            "size": size,
            "model": run.model.folder.name,
            "model.dtype": run.config.model.dtype,
            "engine.task": run.config.engine.task,
            "engine.pooling": run.config.engine.pooling,
            "engine.normalize": run.config.engine.normalize,
            "serve.truncate": options.truncate,
        }
        progress = read_progress(output, identity, options.fresh)
        labels = run.model.labels if run.classifies else ()
        sink = Sink(output, run.served_name, run.dimensions, labels, progress)
        longest = max(shape.prompt_len for shape in run.shapes)
        self.work = Work(file, size, sink, options, longest, run.model.vocab_size, load_tokenizer(run.model.folder))

    def run(self, session: Session) -> None:
        """Work through the file, from where an earlier run was stopped."""
        work = self.work
        assert work is not None
        if work.sink.progress.done:
            session.say(f"{work.sink.output} is whole already: {_counted(work.sink)}")
            return
        work.sink.open()
        if work.sink.progress.next_line > 1:
            session.say(f"going on at line {work.sink.progress.next_line} of {work.file}")
        try:
            with new_address() as address:
                asyncio.run(_follow(session, session.start_rank(address), work))
        finally:
            work.tokenizer.close()


async def _follow(session: Session, rank: Rank, work: Work) -> None:
    """Read the engine's messages; once it is ready, feed it."""
    engine = EngineClient(rank, session.metrics, 2**31, session.run.dimensions)
    feeding: asyncio.Task[None] | None = None
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async for message in session.follow(rank):
            engine.handle(message)
            if isinstance(message, Ready):
                feeding = asyncio.create_task(_feed(session, engine, work))
                feeding.add_done_callback(lambda _: task.cancel())
    except asyncio.CancelledError:
        if feeding is None or not feeding.done():
            raise ServeError("stopped", hint="run the same command again to go on") from None
        task.uncancel()
        feeding.result()
    finally:
        if feeding is not None:
            feeding.cancel()
        rank.kill()


async def _feed(session: Session, engine: EngineClient, work: Work) -> None:
    state = state_over(session, engine, work.tokenizer)
    began, first = time.monotonic(), work.sink.progress
    real_tokens = 0
    with work.file.open("rb") as stream:
        stream.seek(first.input_offset)
        chunks = _chunks(read_lines(stream, first.next_line), work.options.chunk_lines)
        ahead: deque[asyncio.Task[list[Answer]]] = deque()
        reporter = _Reporter(session, work)
        with reporter.bar:
            try:
                while True:
                    while len(ahead) < CHUNKS_AHEAD and (chunk := next(chunks, None)):
                        ahead.append(asyncio.create_task(answer_lines(state, work, chunk)))
                    if not ahead:
                        break
                    answers = await ahead.popleft()
                    real_tokens += sum(answer.num_tokens for answer in answers)
                    await asyncio.to_thread(work.sink.write, answers)
                    reporter.show()
            finally:
                for task in ahead:
                    task.cancel()
    work.sink.finish()
    seconds = time.monotonic() - began
    lines = work.sink.progress.num_lines - first.num_lines
    session.say(
        f"{_counted(work.sink)} in {work.sink.output}; {lines} lines in {seconds:.1f} s, "
        f"{lines / seconds:.1f} lines and {real_tokens / seconds:,.0f} tokens a second"
    )


def _chunks(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    while chunk := list(islice(lines, size)):
        yield chunk


def _counted(sink: Sink) -> str:
    progress = sink.progress
    bad = f", {progress.num_bad} of them bad: see {sink.side}" if progress.num_bad else ""
    return f"{progress.num_lines} lines{bad}"


class _Reporter:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, session: Session, work: Work) -> None:
        self.session, self.work, self.said = session, work, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), transient=True)
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task("bytes", total=work.size, completed=work.sink.progress.input_offset)
        self.began, self.first = time.monotonic(), work.sink.progress.input_offset

    def show(self) -> None:
        """Show how far the input is done, and for how long it will go on."""
        progress, now = self.work.sink.progress, time.monotonic()
        self.bar.update(self.task, completed=progress.input_offset, description=f"{progress.num_lines} lines")
        if self.bar.disable and now - self.said > SAID_EVERY_SECONDS:
            self.said = now
            done = progress.input_offset - self.first
            left = (self.work.size - progress.input_offset) * (now - self.began) / max(1, done)
            share = progress.input_offset / max(1, self.work.size)
            self.session.say(f"{progress.num_lines} lines, {share:.0%}, about {left:.0f} s to go")
