"""How ranks and machines end, and which of several ends is the cause of the others."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.messages import FromEngine

# How long to listen after a first failure: ranks fail because another did, and that one is what counts.
FIRST_CAUSE_SECONDS = 1.0
DEATH, OTHER_NODE, FAILURE = range(3)
DONE: Final = "done"


@dataclass(frozen=True, order=True)
class End:
    """How a rank failed, or a machine; what sorts first is the cause. One that was killed told nobody, and others fail
    of it.
    """

    kind: int
    at: float
    rank: int
    message: str
    hint: str = ""
    exit_code: int = 1
    is_final: bool = False

    def as_error(self, *, many: bool) -> EngineError:
        """Return it for the user.

        Args:
            many: whether there are several ranks, so that the one at fault has to be named.
        """
        if self.kind == OTHER_NODE:
            error = EngineError(self.message)
        elif self.kind == FAILURE:
            error = EngineError(f"rank {self.rank}: {self.message}" if many else self.message)
        else:
            which = f"the process of rank {self.rank}" if many else "the engine process"
            error = EngineError(f"{which} {self.message}", hint=self.hint)
        error.exit_code, error.is_final = self.exit_code, self.is_final
        return error


Received = asyncio.Queue[FromEngine | End | Literal["done"] | None]
"""What ranks send and how they end; None stands for the end of one."""


async def first_cause(first: End, received: Received) -> End:
    """Return the failure that others may have followed from."""
    ends = [first]
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_CAUSE_SECONDS):
            while True:
                message = await received.get()
                if isinstance(message, End):
                    ends.append(message)
    return min(ends)
