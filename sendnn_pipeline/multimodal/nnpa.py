"""The accelerator of Telum CPUs as a device of vision encoders, by ``torch_nnpa``."""

import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.multimodal.devices import NNPA, NNPA_LIBRARY

# By which torch loads device libraries when it is imported; that is off where this library is there.
AUTOLOAD_GROUP = "torch.backends"
HINT = "multimodal.device=cpu encodes on the CPU"


class NnpaDevice:
    """Registered with torch as late as can be, and never for text alone."""

    @property
    def missing(self) -> str:
        """Why it cannot be chosen here."""
        return "" if find_spec(NNPA_LIBRARY) else f"{NNPA_LIBRARY} is not installed; install it, or use cpu or auto"

    def place(self) -> str:
        """Import the library, run what torch's autoload would have run, and compute a first number.

        Raises:
            EngineError: any of that fails; the encoder must not run elsewhere than it was told to.
        """
        try:
            return _register()
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise EngineError(f"{NNPA_LIBRARY} is installed, but {NNPA} cannot be used: {text}", hint=HINT) from error


def _register() -> str:
    # By another encoder of this process, or by torch's autoload: a second time it may fail.
    if NNPA_LIBRARY in sys.modules and _is_registered():
        return NNPA
    __import__(NNPA_LIBRARY)
    for point in entry_points(group=AUTOLOAD_GROUP):
        if point.value.partition(":")[0].partition(".")[0] == NNPA_LIBRARY:
            point.load()()
    _compute()
    return NNPA


def _is_registered() -> bool:
    try:
        _compute()
    except Exception:  # why it does not compute is asked again once it is registered
        return False
    return True


def _compute() -> None:
    import torch

    if float(torch.zeros(1, device=NNPA).cpu()[0]) != 0:
        raise RuntimeError("a tensor of zeros is not zero")
