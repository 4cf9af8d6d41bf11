"""What an engine plans for a run before anything is built: plain values, printed, priced, and sent to every rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sendnn_pipeline.backends.base import Bounds
from sendnn_pipeline.observe.measure import Measure
from sendnn_pipeline.programs.key import Fields
from sendnn_pipeline.programs.program import Program, Sizes


@dataclass(frozen=True)
class Step:
    """A full step of a Program."""

    sizes: Sizes
    num_tokens: int
    """What it computes, padding included."""


@dataclass(frozen=True)
class PlanLine:
    """One line of the printed plan."""

    name: str
    value: str
    key: str = ""
    """The key whose origin is shown behind it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The Programs of a run and what they take. Engines subclass it for what their own parts need to know."""

    steps: Mapping[Program, tuple[Step, ...]]
    """By Program, in the order in which they are compiled and first run: the steps that are run and timed before
    serving, the smallest first, the largest last."""
    max_input_tokens: int
    """The longest input that some Program takes."""
    unit: str
    """What the queue counts, in the plural, such as ``texts``."""
    key_fields: Fields = ()
    """What of the engine's options and code decides a compiled Program."""
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """What a rank holds beside the runtime, by name."""
    bounds: Bounds = field(default_factory=Bounds)
    """For devices that are told the largest sizes beforehand."""
    concurrent_steps: int = 1
    """Steps that run at once."""
    ranks: int = 1
    """How many processes it is for; a run that asks for more than its engine plans for is refused."""
    lines: tuple[PlanLine, ...] = ()
    """For the printed plan."""
    measures: tuple[Measure, ...] = ()
    """Counters and gauges come with the engine's steps, histograms with the accounts of requests."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """For ``/info``; the entry ``model`` is merged with the fields of every model."""

    @property
    def max_model_len(self) -> int:
        """The most tokens of an input and what is made of it together."""
        return self.max_input_tokens

    @property
    def programs(self) -> tuple[Program, ...]:
        """What is compiled, in order."""
        return tuple(self.steps)
