"""A library that AOTInductor built, called through its C interface.

Torch's own runner class keeps Python's lock for the whole call; a foreign call lets go of it, so that several steps
run at once in one process, over one copy of the weights. The interface is declared C-ABI-safe in torch's
``aoti_runtime/interface.h``.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sendnn_pipeline.errors import BackendError

HANDLE = ctypes.c_void_p


class _Entry(ctypes.Structure):
    """A constant's name and tensor."""

    _fields_ = (("name", ctypes.c_char_p), ("tensor", HANDLE))


@dataclass
class AotLibrary:
    """An open library and the tensors it reads. One output."""

    file: Path
    library: Any
    container: Any
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Read in place: they live as long as the library."""

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run it; as many threads at once as it was opened for, more wait.

        Raises:
            BackendError: it failed, for example on a size outside its ranges.
        """
        given = (HANDLE * len(inputs))(*(_handle(tensor) for tensor in inputs))
        made = (HANDLE * 1)()
        self._call("Run", self.container, given, ctypes.c_size_t(len(inputs)), made, ctypes.c_size_t(1), None, None)
        return _tensor(made[0] or 0)

    def originals(self) -> dict[str, str]:
        """Return the exported name of each constant by the library's name."""
        count = ctypes.c_size_t()
        self._call("GetNumConstants", self.container, ctypes.byref(count))
        names: dict[str, str] = {}
        for place in range(count.value):
            name, original = ctypes.c_char_p(), ctypes.c_char_p()
            self._call("GetConstantName", self.container, ctypes.c_size_t(place), ctypes.byref(name))
            self._call("GetConstantOriginalFQN", self.container, ctypes.c_size_t(place), ctypes.byref(original))
            names[(name.value or b"").decode()] = (original.value or b"").decode()
        return names

    def use(self, constants: Mapping[str, torch.Tensor]) -> None:
        """Read these tensors, by the library's names, all of them."""
        self.constants = dict(constants)
        entries = (_Entry * len(constants))(
            *(_Entry(name.encode(), _handle(tensor)) for name, tensor in constants.items())
        )
        self._call(
            "UpdateUserManagedConstantBufferPairs",
            self.container,
            entries,
            ctypes.c_size_t(len(constants)),
            ctypes.c_bool(False),
            ctypes.c_bool(True),
        )

    def _call(self, function: str, *arguments: Any) -> None:
        if getattr(self.library, f"AOTInductorModelContainer{function}")(*arguments):
            raise BackendError(
                f"{self.file.parent.name}/{self.file.name} failed in {function}; the line above says why"
            )


def open_library(file: Path, streams: int) -> AotLibrary:
    """Open a library for as many calls at once as ``streams``.

    Raises:
        BackendError: it is none, or does not fit this torch.
    """
    try:
        library = ctypes.CDLL(str(file))
        container = HANDLE()
        create = library.AOTInductorModelContainerCreateWithDevice
    except (OSError, AttributeError) as error:
        raise BackendError(f"{file} cannot be opened: {error}") from None
    if create(ctypes.byref(container), ctypes.c_size_t(streams), b"cpu", None):
        raise BackendError(f"{file} cannot be opened; the line above says why")
    return AotLibrary(file, library, container)


def _handle(tensor: torch.Tensor) -> int:
    """Return a handle that the callee owns."""
    api = ctypes.pythonapi
    name, pointer = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = HANDLE, [ctypes.py_object, ctypes.c_char_p]
    capsule: Any = torch._C._aoti.unsafe_alloc_void_ptr_from_tensor(tensor)
    return pointer(capsule, name(capsule))  # type: ignore[no-any-return]


def _tensor(handle: int) -> torch.Tensor:
    """Return the tensor of a handle, which is used up."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [HANDLE, ctypes.c_char_p, HANDLE]
    return torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(make(handle, None, None))
