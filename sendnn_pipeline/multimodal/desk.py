"""Where pictures are handed in to be encoded, and rows are handed out."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sendnn_pipeline.engines.threads import torch_threads
from sendnn_pipeline.multimodal.row_cache import RowCache

if TYPE_CHECKING:
    import torch


class Encoder(Protocol):
    """Makes rows of pictures."""

    def encode(self, data: bytes) -> "torch.Tensor":
        """Return the rows of a picture's file."""


Pictures = Sequence[tuple[bytes, bytes]]
"""Digest and file of each."""


class Desk(Protocol):
    """Takes the pictures of requests, by their ids."""

    def open(self) -> None:
        """Wait until pictures can be encoded.

        Raises:
            EngineError: they cannot be.
        """

    def begin(self, job: int, pictures: Pictures) -> None:
        """Have pictures encoded."""

    def take_ready(self) -> Sequence[tuple[int, "Sequence[torch.Tensor] | str"]]:
        """Return the jobs that have ended since: with the rows of each picture, or with why there are none."""

    @property
    def is_busy(self) -> bool:
        """Whether ``take_ready`` has work to do."""

    def cancel(self, job: int) -> None:
        """Forget a job; what comes of it is dropped."""

    def close(self) -> None:
        """End what encodes."""


def why_not(error: Exception) -> str:
    """Return what the request is told whose image could not be encoded."""
    return f"an image could not be encoded: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


@dataclass
class EncodedHere:
    """Encodes in the thread that asks, a job each time: what else that thread does waits."""

    encoder: "Encoder"
    cache: RowCache
    threads: int = 0
    """Of torch while it encodes; 0 leaves them as they are."""
    _jobs: OrderedDict[int, Pictures] = field(default_factory=OrderedDict)

    def open(self) -> None:
        """It can."""

    def begin(self, job: int, pictures: Pictures) -> None:
        """Queue pictures."""
        self._jobs[job] = pictures

    def take_ready(self) -> Sequence[tuple[int, "Sequence[torch.Tensor] | str"]]:
        """Encode the job that waits longest."""
        if not self._jobs:
            return ()
        job, pictures = self._jobs.popitem(last=False)
        try:
            return ((job, [self.rows(digest, data) for digest, data in pictures]),)
        except Exception as error:  # whatever a vision model can do; the request fails alone
            return ((job, why_not(error)),)

    @property
    def is_busy(self) -> bool:
        """Whether a job waits."""
        return bool(self._jobs)

    def rows(self, digest: bytes, data: bytes) -> "torch.Tensor":
        """Return the rows of a picture, encoded unless they are in the cache."""
        rows = self.cache.get(digest)
        if rows is None:
            with torch_threads(self.threads):
                rows = self.encoder.encode(data)
            self.cache.put(digest, rows)
        return rows

    def cancel(self, job: int) -> None:
        """Forget a job."""
        self._jobs.pop(job, None)

    def close(self) -> None:
        """Forget all."""
        self._jobs.clear()
