"""An emulator of ``torch_nnpa``: the device nnpa of torch, computed by the CPU. Imports nothing of ours.

``TORCH_NNPA_EMULATOR`` names when it fails: ``import``, ``register``, or ``compute``, which is with its first tensor.
"""

import os

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = "nnpa"
_FAILS = os.environ.get("TORCH_NNPA_EMULATOR", "")
_LIBRARIES = []

if _FAILS == "import":
    raise OSError("libzdnn.so: cannot open shared object file")


class NnpaTensor(torch.Tensor):
    """A tensor of the device; its numbers are the CPU's."""

    @staticmethod
    def __new__(cls, numbers):
        """Wrap numbers."""
        return torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), dtype=numbers.dtype, device=torch.device(DEVICE, 0)
        )

    def __init__(self, numbers):
        self.numbers = numbers

    def tolist(self):
        """Return the numbers, as torch does for tensors of its own classes."""
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        """Compute on the CPU; what is asked of the CPU stays there."""
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        to_cpu = device is not None and torch.device(device).type == "cpu"
        if device is not None:
            kwargs["device"] = "cpu"
        if function is torch.ops.aten.copy_.default:
            args[0].numbers.copy_(args[1].numbers) if isinstance(args[0], cls) and isinstance(args[1], cls) else _copy(
                args[0], args[1]
            )
            return args[0]
        taken, named = tree_map_only(cls, lambda one: one.numbers, (args, kwargs))
        found = function(*taken, **named)
        if function._schema.is_mutable and isinstance(args[0], cls):
            return args[0]
        return found if to_cpu else tree_map_only(torch.Tensor, cls, found)


def _copy(target, source):
    with torch.no_grad():
        if isinstance(target, NnpaTensor):
            target.numbers.copy_(source)
        else:
            target.copy_(source.numbers)


def _copy_from(source, target, _non_blocking=False):
    """Move what torch itself makes on the CPU first, as ``torch.tensor`` does."""
    _copy(target, source.numbers if isinstance(source, NnpaTensor) else source)
    return target


def _empty(size, *, dtype=None, **_):
    if _FAILS == "compute":
        raise RuntimeError("zdnn_get_status: function not available")
    return NnpaTensor(torch.empty(size, dtype=dtype))


def _empty_strided(size, stride, *, dtype=None, **_):
    return NnpaTensor(torch.empty_strided(size, stride, dtype=dtype))


def _arange(*ends, dtype=None, **_):
    return NnpaTensor(torch.arange(*ends, dtype=dtype))


def _autoload():
    if _FAILS == "register":
        raise RuntimeError("nnpa: no hooks interface")
    if _LIBRARIES:
        return
    _setup_privateuseone_for_python_backend(DEVICE)
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in ("arange", "arange.start", "arange.start_step"):
        library.impl(name, _arange, "PrivateUse1")
    _LIBRARIES.append(library)
