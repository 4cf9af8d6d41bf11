"""Has pictures encoded in a process of its own, beside which the engine goes on."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sendnn_pipeline.multimodal.desk import Pictures
from sendnn_pipeline.multimodal.encoder_process import EncoderProcess, Ended, News, Rows
from sendnn_pipeline.multimodal.row_cache import RowCache
from sendnn_pipeline.multimodal.wire import Dropped, Failed, Opened

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
# One is computed, and one is there when it is done. The others wait here, where forgetting them costs nothing.
AT_ONCE = 2
# A layer is far quicker: a process that does not leave a cancelled picture for so long is stopped, or its device hangs.
STUCK_SECONDS = 60.0


@dataclass
class _Job:
    digests: Sequence[bytes]
    rows: "dict[bytes, torch.Tensor]" = field(default_factory=dict)


class EncodedApart:
    """A desk whose pictures are each encoded once, however many jobs want them.

    Args:
        start: starts a process, now and again when one ends.
        cache: of rows.
        process: the first one.
    """

    is_busy = False
    """What comes of the process wakes the engine."""

    def __init__(self, start: Callable[[], EncoderProcess], cache: RowCache, process: EncoderProcess) -> None:
        self._start, self.cache = start, cache
        self.process: EncoderProcess | None = process
        """None where it could not be started again; the next job tries to."""
        self._is_open = False
        self._jobs: dict[int, _Job] = {}
        self._waiting: OrderedDict[bytes, bytes] = OrderedDict()
        """Files by digest."""
        self._sent: OrderedDict[bytes, bytes] = OrderedDict()
        self._left: dict[bytes, float] = {}
        """When those were cancelled that the process may be encoding."""
        self._ended: list[tuple[int, Sequence[torch.Tensor] | str]] = []

    def open(self) -> None:
        """Wait until pictures can be encoded.

        Raises:
            EngineError: they cannot be.
        """
        assert self.process is not None, "it was just started"
        self.process.wait_until_open()
        self._is_open = True

    def begin(self, job: int, pictures: Pictures) -> None:
        """Have pictures encoded, those of them that were not before."""
        made = _Job([digest for digest, _ in pictures])
        self._jobs[job] = made
        for digest, data in pictures:
            rows = self.cache.get(digest)
            if rows is not None:
                made.rows[digest] = rows
            elif digest not in self._sent:
                self._waiting[digest] = data
        self._end_complete([job])
        if any(time.monotonic() - left > STUCK_SECONDS for left in self._left.values()):
            self._begin_again(f"the process that encodes images did not leave a picture for {STUCK_SECONDS:g} s")
        if self.process is None and self._waiting:
            self.process = self._start()
        self._fill()

    def take_ready(self) -> "Sequence[tuple[int, Sequence[torch.Tensor] | str]]":
        """Return the jobs that have ended since."""
        process = self.process
        for news in () if process is None else process.news():
            self._take(news)
        self._fill()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, job: int) -> None:
        """Forget a job, and the pictures that no other one wants."""
        gone = self._jobs.pop(job, None)
        if gone is not None:
            self._forget_unwanted(gone.digests)

    def close(self) -> None:
        """End the process."""
        self._jobs.clear()
        if self.process is not None:
            self.process.close()
            self.process = None

    def _take(self, news: News) -> None:
        # Of others that are dropped the account is closed; they may have been sent again since.
        counted = isinstance(news, (Rows, Dropped, Failed)) and self._left.pop(news.digest, None) is not None
        if isinstance(news, Rows):
            self._sent.pop(news.digest, None)
            self._waiting.pop(news.digest, None)
            self.cache.put(news.digest, news.rows)
            wanting = self._wanting(news.digest)
            for job in wanting:
                self._jobs[job].rows[news.digest] = news.rows
            self._end_complete(wanting)
        elif isinstance(news, Failed):
            self._sent.pop(news.digest, None)
            self._fail(self._wanting(news.digest), news.message)
        elif isinstance(news, Dropped):
            data = self._sent.pop(news.digest, None) if counted else None
            if data is not None and self._wanting(news.digest):
                # Another job came for it meanwhile.
                self._waiting[news.digest] = data
                self._waiting.move_to_end(news.digest, last=False)
        elif isinstance(news, Opened):
            self._is_open = True
        elif isinstance(news, Ended):
            self._begin_again(f"the process that encodes images {news.how}")
        else:
            self._fail(list(self._jobs), news.message)

    def _begin_again(self, reason: str) -> None:
        """Fail those whose picture was being encoded, and start another process for the others."""
        assert self.process is not None, "it has just ended"
        self.process.close()
        self.process = None
        was_open, self._is_open = self._is_open, False
        sent, self._sent, self._left = list(self._sent.items()), OrderedDict(), {}
        if not was_open:
            # It has not become ready: neither would the next one.
            log.error("%s before it was ready; requests with images fail until one is", reason)
            self._fail(list(self._jobs), f"{reason} before it was ready")
            return
        log.warning("%s; it is started again", reason)
        for digest, data in reversed(sent[1:]):
            self._waiting[digest] = data
            self._waiting.move_to_end(digest, last=False)
        if sent:
            self._fail(self._wanting(sent[0][0]), reason)
        self.process = self._start()

    def _fill(self) -> None:
        while self._is_open and self.process is not None and self._waiting and len(self._sent) < AT_ONCE:
            digest, data = self._waiting.popitem(last=False)
            self._sent[digest] = data
            self.process.encode(digest, data)

    def _wanting(self, digest: bytes) -> list[int]:
        return [number for number, job in self._jobs.items() if digest in job.digests]

    def _end_complete(self, jobs: Sequence[int]) -> None:
        for number in jobs:
            job = self._jobs[number]
            if job.rows.keys() >= set(job.digests):
                del self._jobs[number]
                self._ended.append((number, [job.rows[digest] for digest in job.digests]))

    def _fail(self, jobs: Sequence[int], message: str) -> None:
        for number in jobs:
            gone = self._jobs.pop(number)
            self._ended.append((number, message))
            self._forget_unwanted(gone.digests)

    def _forget_unwanted(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            if self._wanting(digest):
                continue
            self._waiting.pop(digest, None)
            if digest not in self._sent:
                continue
            if digest == next(iter(self._sent)):
                # It may be under way, and counts until the process says how it went.
                self._left.setdefault(digest, time.monotonic())
            else:
                del self._sent[digest]
            if self.process is not None:
                self.process.cancel(digest)


def open_apart(start: Callable[[], EncoderProcess], cache: RowCache) -> EncodedApart:
    """Start the first process, which gets ready beside whatever else is to be done.

    Args:
        start: starts a process.
        cache: of rows.
    """
    return EncodedApart(start, cache, start())
