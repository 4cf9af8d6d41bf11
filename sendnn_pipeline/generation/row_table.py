"""The rows of images in each rank: the first one's, and what it tells the others of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sendnn_pipeline.generation.image_rows import ImageRows
from sendnn_pipeline.generation.messages import PromptImage

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.channel import Channel
    from sendnn_pipeline.multimodal.desk import EncodedHere

GIVE, DROP = "give", "drop"


@dataclass
class RowTable:
    """Of an engine of one rank."""

    rows: dict[int, ImageRows] = field(default_factory=dict)
    """By the scheduler's ids, of prompts that are not computed to their ends; the runner reads them."""

    def give(self, ids: Sequence[int], rows: ImageRows, images: Sequence[PromptImage]) -> None:
        """Take the rows of sequences, which have the same prompt."""
        self.rows.update(dict.fromkeys(ids, rows))

    def drop(self, one: int) -> None:
        """Free the rows of a sequence, where it has any."""
        self.rows.pop(one, None)


@dataclass(kw_only=True)
class LeadingTable(RowTable):
    """Of the first of several ranks."""

    channel: "Channel"
    each_encodes: bool
    """The others are told the images, to encode them, instead of their rows."""

    def give(self, ids: Sequence[int], rows: ImageRows, images: Sequence[PromptImage]) -> None:
        """Take rows, and tell."""
        super().give(ids, rows, images)
        told = [[image.digest, image.data] for image in images] if self.each_encodes else _to_bytes(rows.rows)
        self.channel.tell([GIVE, [ids, rows.positions, told]])

    def drop(self, one: int) -> None:
        """Free rows, and tell."""
        if one in self.rows:
            super().drop(one)
            self.channel.tell([DROP, one])


@dataclass(kw_only=True)
class FollowingTable(RowTable):
    """Of any other rank."""

    dtype: torch.dtype
    """Of the text model."""
    encoder: "EncodedHere | None"
    """Where each rank encodes."""

    def obey(self, what: str, value: Any) -> None:
        """Do what the first rank told."""
        if what == DROP:
            self.drop(value)
            return
        ids, positions, told = value
        if self.encoder is None:
            rows = torch.frombuffer(bytearray(told), dtype=self.dtype).view(len(positions), -1)
        else:
            rows = torch.cat([self.encoder.rows(digest, data) for digest, data in told])
        self.give(ids, ImageRows(positions, rows), ())


def _to_bytes(rows: torch.Tensor) -> bytes:
    return bytes(rows.contiguous().view(torch.uint8).numpy().data)
