"""An emulator of torch_sendnn: Spyre's rules on a CPU, each of which fails loudly where it is broken.

It computes what it is asked to, by PyTorch, and knows nothing of who asks. What a real card forgives, or answers with
a wait, a hang or wrong numbers, is an error here.
"""

from torch_sendnn import backends
from torch_sendnn._version import __version__
from torch_sendnn.device import device
from torch_sendnn.errors import DeviceError
from torch_sendnn.warmup import warmup_mode

__all__ = ["DeviceError", "__version__", "backends", "device", "warmup_mode"]
