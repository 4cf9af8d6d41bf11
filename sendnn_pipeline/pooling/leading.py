"""The first of several ranks: it tells the others each step, then computes its own part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.distributed.leading import do_together
from sendnn_pipeline.pooling.runner import PoolingRunner, Rows

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.distributed.channel import Channel
    from sendnn_pipeline.programs.program import Program


@dataclass(frozen=True)
class LeadingPoolingRunner:
    """Computes steps with all ranks, each of which has the same vectors in the end."""

    own: PoolingRunner
    channel: "Channel"

    def run(self, program: "Program", rows: Rows, offsets: Sequence[int] = ()) -> "tuple[torch.Tensor, list[bool]]":
        """Run ``program`` as ``PoolingRunner`` does.

        Raises:
            RanksApartError: it failed here and not in every rank.
        """
        command = [program.name, [list(row) for row in rows], list(offsets)]
        return do_together(self.channel, program.name, command, lambda: self.own.run(program, rows, offsets))


def obey(runner: PoolingRunner, command: Any) -> None:
    """Compute what the first rank told."""
    name, rows, offsets = command
    program = next(program for program in runner.calls if program.name == name)
    runner.run(program, rows, offsets)
