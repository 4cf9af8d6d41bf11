"""The first of several ranks: it tells the others each step, then computes its own part of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sendnn_pipeline.distributed.leading import do_together
from sendnn_pipeline.generation.row_table import FollowingTable
from sendnn_pipeline.generation.runner import Logits, StepRunner
from sendnn_pipeline.generation.steps import Chunk, DecodeStep

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.distributed.channel import Channel
    from sendnn_pipeline.generation.plan import GenerationPlan

T = TypeVar("T")
PREFILL, DECODE, CLEAR = "prefill", "decode", "clear"


@dataclass(frozen=True)
class LeadingRunner:
    """Computes steps with all ranks. Logits are the first's alone: only it chooses tokens."""

    own: StepRunner
    channel: "Channel"

    @property
    def plan(self) -> "GenerationPlan":
        """Of the run."""
        return self.own.plan

    def prefill(self, chunks: Sequence[Chunk]) -> "Sequence[torch.Tensor]":
        """Compute chunks of prompts, and return the hidden states of each one's tokens."""
        return self._together(PREFILL, chunks, lambda: self.own.prefill(chunks))

    def decode(self, step: DecodeStep) -> "torch.Tensor":
        """Compute a token of each row, and return their hidden states."""
        return self._together(DECODE, step, lambda: self.own.decode(step))

    def clear(self, blocks: Sequence[int]) -> None:
        """Take numbers that are not finite out of the cache of every rank."""
        self._together(CLEAR, blocks, lambda: self.own.clear(blocks))

    def logits(self, hidden: "torch.Tensor") -> Logits:
        """Return logits of hidden states."""
        return self.own.logits(hidden)

    def _together(self, what: str, value: Any, compute: Callable[[], T]) -> T:
        return do_together(self.channel, f"a {what}", [what, msgspec.to_builtins(value)], compute)


def obey(runner: StepRunner, images: FollowingTable | None, command: Any) -> None:
    """Compute what the first rank told."""
    what, value = command
    if what == PREFILL:
        runner.prefill(msgspec.convert(value, list[Chunk]))
    elif what == DECODE:
        runner.decode(msgspec.convert(value, DecodeStep))
    elif what == CLEAR:
        runner.clear(value)
    else:
        assert images is not None, "rows of images are told of models that read them alone"
        images.obey(what, value)
