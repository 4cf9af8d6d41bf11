"""The built-in devices and architectures, registered as any plugin's are."""

from collections.abc import Callable

from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.multimodal.adapters import ImageAdapter
from sendnn_pipeline.multimodal.cpu import CpuDevice
from sendnn_pipeline.multimodal.devices import CPU, NNPA, MultimodalDevice
from sendnn_pipeline.multimodal.idefics3 import Idefics3Adapter, SmolVLMAdapter
from sendnn_pipeline.multimodal.llava_next import LlavaNextAdapter
from sendnn_pipeline.multimodal.mistral3 import Mistral3Adapter
from sendnn_pipeline.multimodal.nnpa import NnpaDevice


@hookimpl
def register_multimodal_devices(register: Callable[[str, Callable[[], MultimodalDevice]], None]) -> None:
    """Register the CPU and nnpa."""
    register(CPU, CpuDevice)
    register(NNPA, NnpaDevice)


@hookimpl
def register_multimodal_adapters(register: Callable[[str, Callable[[], ImageAdapter]], None]) -> None:
    """Register the architectures, by their ``model_type``."""
    register("llava_next", LlavaNextAdapter)
    register("mistral3", Mistral3Adapter)
    register("idefics3", Idefics3Adapter)
    register("smolvlm", SmolVLMAdapter)
