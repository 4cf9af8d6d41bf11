"""Another emulator of ``torch_nnpa``, strict: nothing is computed of tensors of two devices.

Imports nothing of ours. It is registered once, by an entry point of another name in a module of its own: a second
time, or in one of several ranks before their group is formed, or where torch would have loaded it by itself, it fails.
``TORCH_NNPA_EMULATOR`` names when it fails: ``import``, ``register``, or ``compute``, which is with its first tensor;
``TORCH_NNPA_LOG`` a file that gets a line for each process that loads it.
"""

import os

import torch

_FAILS = os.environ.get("TORCH_NNPA_EMULATOR", "")

if _FAILS == "import":
    raise OSError("libzdnn.so: cannot open shared object file")
if os.environ.get("WORLD_SIZE", "1") != "1" and not torch.distributed.is_initialized():
    raise RuntimeError("nnpa: imported before the ranks formed their group")
if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
    raise RuntimeError("nnpa: torch would have loaded this by itself")
