"""What an engine is: one way to run a model. The stages, Programs, backends and processes know no more of it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sendnn_pipeline.backends.base import CompiledProgram, Graph, Limits
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import Plan
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.messages import Cancel, FromEngine, Request
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.programs.program import Program, Sizes
from sendnn_pipeline.programs.times import StepMs

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.world import World
    from sendnn_pipeline.hooks.manager import Plugins


class Engine(Protocol):
    """One way to run a model, by name. Every process makes its own; making one imports nothing heavy."""

    name: str
    keys: tuple[str, ...]
    """Keys that runs of it use, beside those of every run; one that ends in a dot stands for its whole group."""

    def claim(self, facts: ModelFacts) -> str | None:
        """Return why ``engine=auto`` is this one for the model; None where it is not. Two claims are an error."""

    def resolve(self, draft: Draft, limits: Limits) -> None:
        """Put a value and a reason for each ``auto`` of its keys.

        Raises:
            ConfigError: a value does not fit the model or the backend.
        """

    def plan(self, config: RunConfig, model: ModelFacts, limits: Limits) -> Plan:
        """Return the Programs that every admissible step maps to, and what they take.

        Raises:
            ConfigError: there is no such plan within the limits.
        """

    def open(self, run: Run, world: "World") -> "EngineCore":
        """Return the engine with its weights at hand, in the process of a rank."""


@runtime_checkable
class UsesPlugins(Protocol):
    """An engine that other plugins add to; called as soon as it is made, in every process."""

    def use_plugins(self, plugins: "Plugins") -> None:
        """Take the plugins of this process."""


@runtime_checkable
class ChecksRanks(Protocol):
    """An engine that its libraries may keep from several ranks, as only they know; `doctor` asks it."""

    def check_ranks(self, run: Run) -> None:
        """Refuse what the ranks would refuse as soon as they load; may take seconds.

        Raises:
            PipelineError: they would.
        """


class EngineCore(Protocol):
    """An engine with its weights, in one rank. All but the computing happens in the thread that calls it."""

    @property
    def wake(self) -> int:
        """A file descriptor that can be read when a step ended that runs in another thread."""

    def graph(self, program: Program) -> Graph:
        """Return what is compiled as ``program``."""

    def install(self, compiled: Mapping[Program, CompiledProgram]) -> None:
        """Bind the weights to all Programs; what only compiling needed may go."""

    def rehearse(self, program: Program, sizes: Sizes, *, check: bool) -> float:
        """Run a full step on made-up input over the path of requests, and return its milliseconds.

        Args:
            program: what runs.
            sizes: of the step.
            check: whether the result counts; while a device traces, it is garbage.

        Raises:
            EngineError: the result has another shape than planned, or is not finite.
        """

    def start(self, times: Mapping[Program, StepMs], send: Callable[[FromEngine], None]) -> None:
        """Be ready to take requests.

        Args:
            times: milliseconds of full steps.
            send: takes what goes to the edge.
        """

    def take(self, message: Request | Cancel) -> None:
        """Queue a request, or forget one."""

    def step(self) -> bool:
        """Make one beat: decide, compute, account. False when there is nothing to do until a message or ``wake``."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""

    def about(self) -> dict[str, Any]:
        """Return facts of the running engine, for ``/info``."""

    def close(self) -> None:
        """End its threads."""


@runtime_checkable
class Follower(Protocol):
    """An engine of which several ranks compute each step together; only the first of them decides."""

    def meet(self) -> None:
        """Join the other ranks, once all of them have loaded and before anything is compiled."""

    def obey(self, command: Any) -> None:
        """Compute what the first rank told: plain values, of its engine's own making."""
