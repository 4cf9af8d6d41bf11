"""What the tests answer when the product asks whether this CPU computes bfloat16.

``model.dtype=auto`` is bfloat16 on such a CPU and float32 on others, so a test that does not say its dtype passes on
one machine and fails on the next. In a process of the tests the question is answered by the environment variable below
instead: with one of the two dtypes, by the machine, or, as ``ask``, with the end of the process and one line. A suite
that passes under ``ask`` depends on no CPU.

Imported by every process that the tests start (see sitecustomize.py), so it imports nothing of theirs or the product's.
"""

import functools
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

# Where the product asks the CPU: whoever moves the function there names its new module here.
MODULE, FUNCTION = "sendnn_pipeline.machine.cpu", "computes_bfloat16"
VARIABLE = "TESTS_CPU_ANSWER"
ASK, BFLOAT16, FLOAT32, MACHINE = ANSWERS = ("ask", "bfloat16", "float32", "machine")
FOLDER = Path(__file__).parent


class DtypeUnsaidError(SystemExit):
    """No ``PipelineError``: the product reports those and goes on, where it can."""


class _Finder:
    """Finds the one module, and patches it as soon as it has been executed: before anyone takes a name from it."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the module's own spec, with a loader that patches."""
        spec = PathFinder.find_spec(name, path) if name == MODULE else None  # type: ignore[arg-type]
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                setattr(module, FUNCTION, _answered(getattr(module, FUNCTION)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _answered(detect: Callable[..., bool]) -> Callable[..., bool]:
    """Return the detection as the tests answer it; of a CPU that is given, rather than this one, it still decides."""

    @functools.wraps(detect)
    def answered(*given: object, **named: object) -> bool:
        answer = os.environ.get(VARIABLE, MACHINE)
        if given or named or answer == MACHINE:
            return detect(*given, **named)
        if answer in (BFLOAT16, FLOAT32):
            return answer == BFLOAT16
        raise DtypeUnsaidError(
            f"error: the CPU was asked whether it computes bfloat16, as nothing says a dtype ({VARIABLE}={answer}); "
            f"say model.dtype=float32 or bfloat16, or set {VARIABLE} to {BFLOAT16}, {FLOAT32} or {MACHINE}"
        )

    return answered


def install() -> None:
    """Answer in this process from now on; a second time, as where one of its processes imports the tests, is none."""
    module = sys.modules.get(MODULE)
    if module is None:
        sys.meta_path.insert(0, _Finder)
    elif not hasattr(getattr(module, FUNCTION), "__wrapped__"):
        raise RuntimeError(f"{MODULE} is imported already: others hold the function by its name")


def in_environment(environ: dict[str, str]) -> dict[str, str]:
    """Return ``environ`` for a process to be started, which answers as this one does; outside of pytest unchanged."""
    if VARIABLE not in environ:
        return environ
    others = [folder for folder in environ.get("PYTHONPATH", "").split(os.pathsep) if folder not in ("", str(FOLDER))]
    return {**environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *others])}
