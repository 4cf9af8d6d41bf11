"""The grammars of an engine's texts, in a process that is started for the first one.

What a grammar costs is known only once it is run, and llguidance can take seconds, gigabytes or the whole process for a
small one. So a process of its own runs them, one text at a time: where it takes too much it is ended, that text fails,
and the others go on in the next one.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe

import msgspec
import psutil

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.grammar.limits import OPEN_SECONDS, STEP_SECONDS, TOO_MUCH
from sendnn_pipeline.generation.grammar.messages import Advance, Begin, End, Mask, ToWorker
from sendnn_pipeline.generation.grammar.worker import Vocabulary
from sendnn_pipeline.generation.plan import generation_plan

WORKER = "sendnn_pipeline.generation.grammar.worker"
POLL_SECONDS = 0.1
# Of any clock, on a machine that has other things to do.
MAX_WAIT_SECONDS = 60.0
NOT_STARTED = "the process that reads grammars did not start; is llguidance installed?"


@dataclass
class _Text:
    grammar: str
    token_ids: list[int] = field(default_factory=list)
    mask: Mask | None = None
    """None while it is made."""
    process: int = 0
    """The number of the process that knows it."""


class Grammars:
    """Not for several threads, but for its own.

    Args:
        vocabulary: of the model.
        wake: an event's descriptor, written to when a text can begin.
    """

    def __init__(self, vocabulary: Vocabulary, wake: int) -> None:
        self._vocabulary, self._wake = vocabulary, wake
        self._texts: dict[int, _Text] = {}
        self._ready: list[int] = []
        self._news = threading.Condition()
        self._asked: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        """Texts, and of how many tokens; none once a text has ended."""
        self._thread: threading.Thread | None = None

    def begin(self, text_id: int, grammar: str) -> None:
        """Take a text that has no token yet; ``take_ready`` says when it may have one."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="grammars", daemon=True)
            self._thread.start()
        self._texts[text_id] = _Text(grammar)
        self._asked.put((text_id, 0))

    def take_ready(self) -> list[int]:
        """Return the texts that can begin since the last call, or never can: their masks say which."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._news:
            ready, self._ready = self._ready, []
        return [text_id for text_id in ready if text_id in self._texts]

    def mask(self, text_id: int) -> Mask:
        """Wait for what may come next in a text."""
        text = self._texts[text_id]
        with self._news:
            self._news.wait_for(lambda: text.mask is not None)
            assert text.mask is not None
            return text.mask

    def advance(self, text_id: int, token_id: int) -> None:
        """Take the next token of a text."""
        text = self._texts[text_id]
        text.token_ids.append(token_id)
        text.mask = None
        self._asked.put((text_id, len(text.token_ids)))

    def end(self, text_id: int) -> None:
        """Forget a text."""
        del self._texts[text_id]
        self._asked.put((text_id, 0))

    def close(self) -> None:
        """End thread and process."""
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        worker: _Worker | None = None
        number = 0
        while (asked := self._asked.get()) is not None:
            text_id, num_tokens = asked
            text = self._texts.get(text_id)
            if worker is None or not worker.alive:
                worker, number = _Worker(self._vocabulary), number + 1
            if text is None:
                worker.tell(End(text_id))
                continue
            if text.process == number:
                mask = worker.ask(Advance(text_id, text.token_ids[num_tokens - 1]), STEP_SECONDS)
            else:
                text.process = number
                mask = worker.ask(Begin(text_id, text.grammar, text.token_ids[:num_tokens]), OPEN_SECONDS)
            self._deliver(text_id, text, mask, first=num_tokens == 0)
        if worker is not None:
            worker.close()

    def _deliver(self, text_id: int, text: _Text, mask: Mask, *, first: bool) -> None:
        with self._news:
            text.mask = mask
            if first:
                self._ready.append(text_id)
            self._news.notify_all()
        if first:
            os.eventfd_write(self._wake, 1)


def open_grammars(run: Run, wake: int) -> Grammars:
    """Return the grammars of a run's texts.

    Args:
        run: knows the model.
        wake: an event's descriptor, written to when a text can begin.
    """
    file, ends = run.model.folder / "tokenizer.json", generation_plan(run).facts.end_ids
    return Grammars(Vocabulary(str(file), run.model.vocab_size, list(ends)), wake)


class _Worker:
    """The process; one message at a time, so that it is known which one ended it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._connection, theirs = Pipe()
        described = msgspec.json.encode(vocabulary).decode()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(theirs.fileno()), described],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A terminal's Ctrl-C is not for it.
                start_new_session=True,
            )
        self.alive = True
        hello = self._answer(MAX_WAIT_SECONDS)
        self._unusable = NOT_STARTED if hello is None else hello.error

    def ask(self, message: Begin | Advance, cpu_seconds: float) -> Mask:
        """Return what may come next; where that takes more than so much of a CPU, the process is ended."""
        if self._unusable:
            return Mask(message.text_id, b"", error=self._unusable)
        mask = self._answer(cpu_seconds) if self.tell(message) else None
        if mask is None:
            self.close()
            return Mask(message.text_id, b"", error=TOO_MUCH)
        return mask

    def tell(self, message: ToWorker) -> bool:
        """Send a message; return whether it could be."""
        try:
            self._connection.send_bytes(msgspec.msgpack.encode(message))
        except OSError:
            return False
        return True

    def _answer(self, cpu_seconds: float) -> Mask | None:
        """Wait for a mask; None where none comes."""
        ends, most = time.monotonic() + MAX_WAIT_SECONDS, self._cpu_seconds() + cpu_seconds
        try:
            while not self._connection.poll(POLL_SECONDS):
                if time.monotonic() > ends or self._cpu_seconds() > most:
                    return None
            return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Mask)
        except (EOFError, OSError):
            return None

    def _cpu_seconds(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End it."""
        self.alive = False
        self._process.kill()
        self._process.wait()
        self._connection.close()
