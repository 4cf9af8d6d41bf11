"""What the device does: its numbers are the CPU's, and move between devices when told to, never by themselves."""

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

import torch_nnpa

aten = torch.ops.aten


class OnDevice(torch.Tensor):
    """A tensor of the device."""

    @staticmethod
    def __new__(cls, memory):
        return torch.Tensor._make_wrapper_subclass(
            cls, memory.size(), strides=memory.stride(), dtype=memory.dtype, device=torch.device("nnpa", 0)
        )

    def __init__(self, memory):
        self.memory = memory

    def tolist(self):
        """Torch does not do this for classes of tensors."""
        return self.memory.tolist()

    @classmethod
    def __torch_dispatch__(cls, operator, types, arguments=(), named=None):
        named = dict(named or {})
        if operator is aten._to_copy.default:
            return _to_copy(*arguments, **named)
        if operator is aten.copy_.default:
            return copy_from(arguments[1], arguments[0])
        if operator is aten._local_scalar_dense.default:
            return arguments[0].memory.item()
        # Numbers of no dimension are constants of the program.
        others = [one for one in tree_leaves((arguments, named)) if isinstance(one, torch.Tensor) and one.dim()]
        if not all(isinstance(one, cls) for one in others):
            raise RuntimeError(f"nnpa: {operator} of tensors on nnpa and on others")
        if named.get("device") is not None:
            if torch.device(named["device"]).type != "nnpa":
                raise RuntimeError(f"nnpa: {operator} makes a tensor of another device")
            named["device"] = "cpu"
        taken, options = tree_map_only(cls, lambda one: one.memory, (arguments, named))
        found = operator(*taken, **options)
        if operator._schema.is_mutable and isinstance(arguments[0], cls):
            return arguments[0]
        return tree_map_only(torch.Tensor, cls, found)


def _to_copy(source, *, device=None, **options):
    found = aten._to_copy.default(source.memory if isinstance(source, OnDevice) else source, **options)
    there = isinstance(source, OnDevice) if device is None else torch.device(device).type == "nnpa"
    return OnDevice(found) if there else found


def empty(size, *, dtype=None, **_):
    if torch_nnpa._FAILS == "compute":
        raise RuntimeError("zdnn_get_status: function not available")
    return OnDevice(torch.empty(size, dtype=dtype))


def empty_strided(size, stride, *, dtype=None, **_):
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype))


def copy_from(source, target, _non_blocking=False):
    """Move numbers: to the device, from it, or within it."""
    with torch.no_grad():
        numbers = source.memory if isinstance(source, OnDevice) else source
        (target.memory if isinstance(target, OnDevice) else target).copy_(numbers)
    return target


def arange(*ends, dtype=None, **_):
    return OnDevice(torch.arange(*ends, dtype=dtype))


# Those that torch would make of an empty tensor that is resized.
RANGES = dict.fromkeys(("arange", "arange.start", "arange.start_step"), arange)
KERNELS = RANGES | {"empty.memory_format": empty, "empty_strided": empty_strided, "_copy_from": copy_from}
