"""What is registered under ``zentorch``; imported at every start, so nothing heavy is imported here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_pipeline.hooks import hookimpl
from sendnn_zentorch.backend import ZentorchBackend, ZentorchConfig
from sendnn_zentorch.cpu import CPUINFO, missing_features

if TYPE_CHECKING:
    from sendnn_pipeline.engines.run import Run


@hookimpl
def config_paths() -> Path:
    """Return the folder of the option and its variables."""
    return Path(__file__).parent / "conf"


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the keys of ``backend=zentorch``."""
    store("backend", "zentorch", ZentorchConfig)


@hookimpl
def register_compile_backends(register: Callable[[str, type], None]) -> None:
    """Register zentorch."""
    register("zentorch", ZentorchBackend)


@hookimpl
def check_config(run: "Run") -> list[str]:
    """Refuse a CPU on which zentorch would compute wrong vectors."""
    if run.config.backend.name != "zentorch":
        return []
    missing = missing_features(CPUINFO)
    if not missing:
        return []
    return [f"backend=zentorch needs an x86-64 CPU with AVX2 and FMA; this one lacks {missing}: use backend=inductor"]
