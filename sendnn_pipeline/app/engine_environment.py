"""The variables of an engine's process: what its backend asks for, before anything of it is imported."""

from collections.abc import Mapping

from sendnn_pipeline.app.resolve import ResolvedRun
from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.machine.environ import extend_environment, too_late
from sendnn_pipeline.multimodal.devices import AUTOLOAD, autoload_environment
from sendnn_pipeline.pipeline.library_set import library_set


def engine_environment(resolved: ResolvedRun, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the backend's library must find when it is imported.

    Raises:
        BackendError: the backend cannot work here.
    """
    run, backend = resolved.run, resolved.backend
    prepared, library = backend.prepare(run.cache_dir, environ), library_set(run, backend, environ)
    cached = library.cache.variables(resolved.library_folder or library.working) if library else {}
    return {
        **autoload_environment(environ),
        **prepared,
        **backend.environment(run.plan.bounds, {**environ, **cached}),
        **cached,
    }


def extend_own_environment(backend: CompileBackend, variables: Mapping[str, str]) -> None:
    """Set them in this process, for an engine that runs in it.

    Raises:
        BackendError: the library that was to find them is imported already.
    """
    # Where torch is imported already, it has loaded what it would, and nothing of that is the backend's.
    error = too_late(backend.library, {name: text for name, text in variables.items() if name != AUTOLOAD})
    if error is not None:
        raise error
    extend_environment(variables)
