"""The keys of ``backend=openvino``."""

from dataclasses import dataclass

from sendnn_pipeline.config.schema import BackendConfig


@dataclass(frozen=True, kw_only=True)
class OpenVINOConfig(BackendConfig):
    """Options of ``backend=openvino``."""

    pin_threads: bool = False
    """Tie each thread to a CPU, from the first that this run may use; a run that shares its CPUs is slower so."""
