"""Where a vision encoder runs, and in which dtype: intent, decided before a device library is imported. No torch."""

import platform
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.hooks.registry import Registry

AUTO, CPU, NNPA = "auto", "cpu", "nnpa"
DEVICE_KEY, DTYPE_KEY = "multimodal.device", "multimodal.dtype"
NNPA_LIBRARY = "torch_nnpa"
AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
# Their CPUs compute no float16.
FLOAT32_MACHINES = ("s390x", "ppc64le")


class MultimodalDevice(Protocol):
    """A device of vision encoders. Making one imports nothing heavy."""

    @property
    def missing(self) -> str:
        """Why it cannot be chosen here, with what to do; empty where its library is there. Nothing is imported."""

    def place(self) -> str:
        """Register the device with torch and prove that it computes; return torch's name of it.

        Called once, in the process of an encoder, when its weights are placed. Whatever it raises ends the start.
        """


def device_registry(plugins: Plugins) -> Registry[MultimodalDevice]:
    """Return the devices that plugins register."""
    return plugins.registry("register_multimodal_devices", "multimodal device")


def resolve_device(
    wanted: str, devices: Registry[MultimodalDevice], where: str = "", lost: str = ""
) -> tuple[str, str]:
    """Return the device that a vision encoder is to run on, and why.

    ``auto`` is nnpa where its library can be found, which does not say that it works, and the CPU elsewhere.

    Args:
        wanted: a device's name in any case, or ``auto``.
        devices: that there are.
        where: what chose it, for errors.
        lost: why a device may be missing, for errors.

    Raises:
        ConfigError: there is no such device, or its library is missing.
    """
    name = wanted.lower()
    if name == AUTO:
        if not devices.create(NNPA).missing:
            return NNPA, f"{NNPA_LIBRARY} is installed"
        return CPU, f"{NNPA_LIBRARY} is not installed"
    missing = devices.create(name, where=where, missing=lost).missing
    if missing:
        problem, _, hint = missing.partition("; ")
        raise ConfigError(f"{DEVICE_KEY}={name}: {problem}", where=where, hint=hint)
    return name, ""


def resolve_dtype(wanted: str, machine: str = "") -> tuple[str, str]:
    """Return the dtype of vision tower and projector, and why.

    Args:
        wanted: a dtype, or ``auto``.
        machine: as ``platform.machine`` names it; empty is this one.
    """
    if wanted != Dtype.auto:
        return str(wanted), ""
    machine = machine or platform.machine()
    chosen = Dtype.float32 if machine in FLOAT32_MACHINES else Dtype.float16
    return str(chosen), f"the default on {machine}"


def autoload_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps torch from loading nnpa by itself when it is imported, which could end the process.

    A user's own word stays.
    """
    return {AUTOLOAD: "0"} if find_spec(NNPA_LIBRARY) is not None and AUTOLOAD not in environ else {}
