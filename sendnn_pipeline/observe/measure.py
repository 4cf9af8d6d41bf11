"""What an engine says of a metric of its own."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """A metric that an engine has beside those of every run."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    doc: str
    label: str = ""
    """The name of its own label, if it has one."""
    buckets: tuple[float, ...] = ()
    """Of a histogram; empty is the usual ones for seconds."""
