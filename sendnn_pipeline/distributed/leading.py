"""What the first of several ranks does with all of them: it tells the others, then does its own part."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sendnn_pipeline.errors import RanksApartError

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.channel import Channel

T = TypeVar("T")


def do_together(channel: "Channel", what: str, command: Any, compute: Callable[[], T]) -> T:
    """Return what this rank computes of what all are told.

    Args:
        channel: to the others.
        what: is computed, for errors.
        command: of plain types, that the others obey.
        compute: this rank's part.

    Raises:
        RanksApartError: it failed here and not in every rank; what fails in all of them is raised as it is.
    """
    channel.tell(command)
    try:
        return compute()
    except Exception as error:
        if channel.failed_together():
            raise
        text = (str(error).splitlines() or ["?"])[0][:200]
        raise RanksApartError(
            f"the first rank failed in {what} and others did not: {type(error).__name__}: {text}",
            hint="the lines above may say why",
        ) from error
