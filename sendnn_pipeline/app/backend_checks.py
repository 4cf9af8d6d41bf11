"""Whether a run's backends can do what its plan asks of them."""

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.backends.create import create_simple_backend
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.engines.plan import Plan
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.machine.memory import available_bytes


def check_helpers(plugins: Plugins, draft: Draft, plan: Plan) -> CompileBackend | None:
    """Return the backend of the plan's helper Programs; None where it has none.

    Raises:
        ConfigError: it compiles none.
    """
    if not any(program.helper for program in plan.programs):
        draft.note_unused("backend.simple", "the engine has no helper Programs")
        return None
    name, where = draft["backend.simple"], draft.where("backend.simple")
    simple = create_simple_backend(plugins, name, where=where)
    if not simple.limits.helpers:
        raise ConfigError(
            f"backend.simple={name} compiles no helper Programs", where=where, hint="use inductor or eager"
        )
    return simple


def check_limits(run: Run, backend: CompileBackend, draft: Draft) -> None:
    """Refuse a run that asks for artifacts its backend does not keep, or for more copies of weights than memory holds.

    Raises:
        ConfigError: which of the two, with what to do.
    """
    limits = backend.limits
    if run.config.artifacts.require and limits.artifacts == "none":
        raise ConfigError(
            f"artifacts.require=true, and backend={backend.name} keeps no artifacts",
            where=draft.where("artifacts.require"),
            hint="use backend=inductor, or artifacts.require=false",
        )
    if run.config.model.dtype not in limits.embeds_weights or limits.artifacts != "files":
        return
    # While they are compiled, the model itself is there, too.
    copies = 1 + len(run.plan.programs)
    needed = copies * sum(file.stat().st_size for file in run.model.weight_files)
    available = available_bytes()
    if needed > available:
        raise ConfigError(
            f"Programs that hold the weights take {copies} copies of them, {needed / 2**30:.1f} GiB, and "
            f"{available / 2**30:.1f} GiB are free",
            hint="use fewer Programs, or shared weights (backend.freezing=false where the backend has it)",
        )
