"""What is registered under ``vision``."""

from collections.abc import Callable

from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.multimodal.adapters import ImageAdapter
from sendnn_pipeline.multimodal.devices import MultimodalDevice
from sendnn_vision.cuda import CudaDevice
from sendnn_vision.llava import LlavaAdapter


@hookimpl
def register_multimodal_adapters(register: Callable[[str, Callable[[], ImageAdapter]], None]) -> None:
    """Register LLaVA."""
    register("llava", LlavaAdapter)


@hookimpl
def register_multimodal_devices(register: Callable[[str, Callable[[], MultimodalDevice]], None]) -> None:
    """Register cuda."""
    register("cuda", CudaDevice)
