"""The first of several ranks: it tells the others each step, then computes its own part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import RanksApartError
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
        self.channel.tell([program.name, [list(row) for row in rows], list(offsets)])
        try:
            return self.own.run(program, rows, offsets)
        except Exception as error:
            if self.channel.failed_together():
                raise
            text = (str(error).splitlines() or ["?"])[0][:200]
            raise RanksApartError(
                f"the first rank failed in {program.name} and others did not: {type(error).__name__}: {text}",
                hint="the lines above may say why",
            ) from error


def obey(runner: PoolingRunner, command: Any) -> None:
    """Compute what the first rank told."""
    name, rows, offsets = command
    program = next(program for program in runner.calls if program.name == name)
    runner.run(program, rows, offsets)
