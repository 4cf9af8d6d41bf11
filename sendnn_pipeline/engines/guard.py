"""A plugin's engine behind a guard: whatever it raises or gives is one line that names it and its plugin."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.base import Engine, EngineCore
from sendnn_pipeline.engines.plan import Plan
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import PluginError
from sendnn_pipeline.hooks.registry import check_parts
from sendnn_pipeline.hooks.timeout import blame
from sendnn_pipeline.models.facts import ModelFacts

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.world import World

CONTRACT = "see Engine in engines/base.py"


@dataclass
class GuardedEngine:
    """Hands everything on to the engine."""

    engine: Engine
    what: str
    """The engine and its plugin, for errors."""
    name: str
    keys: tuple[str, ...]

    def claim(self, facts: ModelFacts) -> str | None:
        """Return its reason, if it claims the model."""
        with blame(self.what):
            claimed = self.engine.claim(facts)
        if claimed is not None and not isinstance(claimed, str):
            raise self._wrong("claim", claimed, "a reason as text, or None")
        return claimed

    def resolve(self, draft: Draft, limits: Limits) -> None:
        """Put its values."""
        with blame(self.what):
            self.engine.resolve(draft, limits)

    def plan(self, config: RunConfig, model: ModelFacts, limits: Limits) -> Plan:
        """Return its plan."""
        with blame(self.what):
            plan = self.engine.plan(config, model, limits)
        if not isinstance(plan, Plan):
            raise self._wrong("plan", plan, "a Plan of engines/plan.py")
        return plan

    def open(self, run: Run, world: "World") -> EngineCore:
        """Return it with its weights at hand."""
        with blame(self.what):
            core = self.engine.open(run, world)
        check_parts(f"what {self.what} opens", core, _parts(EngineCore), "see EngineCore in engines/base.py")
        return core

    def _wrong(self, method: str, returned: object, wanted: str) -> PluginError:
        return PluginError(f"{self.what} returned {str(returned)[:100]} from {method}, which returns {wanted}")


def guard(engine: Engine, what: str, name: str) -> GuardedEngine:
    """Put an engine behind its guard.

    Args:
        engine: what was made.
        what: it and its plugin, for errors.
        name: that it is registered under.

    Raises:
        PluginError: it lacks a part of its contract.
    """
    check_parts(what, engine, _parts(Engine), CONTRACT)
    if engine.name != name:
        raise PluginError(f"{what} is called {engine.name!r}", hint=f"call it {name!r}, as it is registered")
    keys: Any = engine.keys
    if not isinstance(keys, tuple | list) or not all(isinstance(key, str) for key in keys):
        raise PluginError(f"{what} has {keys!r} for its keys", hint="a tuple of names of keys")
    return GuardedEngine(engine, what, name, tuple(keys))


def _parts(contract: type) -> set[str]:
    return {name for name in (*getattr(contract, "__annotations__", ()), *vars(contract)) if not name.startswith("_")}
