"""What is registered under ``cpu_models``."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sendnn_cpu_models.source import MeanSource
from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.known.entry import ConfigRegistry, KnownConfiguration, read_known
from sendnn_pipeline.models.sources import ModelSource

HERE = Path(__file__).parent


class MeasuredOnCpus:
    """Configurations found by sweeps; each file says on what machine."""

    def configs(self) -> Sequence[KnownConfiguration]:
        """Return those of the folder."""
        return read_known(HERE / "known")


@hookimpl
def config_paths() -> Path:
    """Add the option ``model=smollm2-embed``."""
    return HERE / "conf"


@hookimpl
def register_model_sources(register: Callable[[str, Callable[[], ModelSource]], None]) -> None:
    """Register mean."""
    register("mean", MeanSource)


@hookimpl
def register_config_registries(register: Callable[[str, Callable[[], ConfigRegistry]], None]) -> None:
    """Register cpu."""
    register("cpu", MeasuredOnCpus)
