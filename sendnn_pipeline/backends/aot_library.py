"""A library that AOTInductor built, called through its C interface.

Torch's own runner class keeps Python's lock for the whole call; a foreign call lets go of it, so that several steps
run at once in one process, over one copy of the weights. The interface is declared C-ABI-safe in torch's
``aoti_runtime/interface.h``.
"""

import ctypes
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sendnn_pipeline.errors import BackendError

HANDLE = ctypes.c_void_p
PREFIX = "AOTInductorModelContainer"
# Prototypes of our own: the shared ones of ctypes.pythonapi are everybody's to change.
CAPSULE_POINTER = ctypes.PYFUNCTYPE(HANDLE, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
NEW_CAPSULE = ctypes.PYFUNCTYPE(ctypes.py_object, HANDLE, ctypes.c_char_p, HANDLE)(("PyCapsule_New", ctypes.pythonapi))


class _Entry(ctypes.Structure):
    """A constant's name and tensor."""

    _fields_ = (("name", ctypes.c_char_p), ("tensor", HANDLE))


@dataclass(frozen=True)
class AotLibrary:
    """An open library; each container over it has constants of its own."""

    file: Path
    library: ctypes.CDLL

    def constants(self) -> dict[str, str]:
        """Return the exported name of each constant that is not embedded, by the library's name."""
        container = self._new_container(1)
        count = ctypes.c_size_t()
        self.call("GetNumConstants", container, ctypes.byref(count))
        names: dict[str, str] = {}
        for index in range(count.value):
            name, original = ctypes.c_char_p(), ctypes.c_char_p()
            self.call("GetConstantName", container, ctypes.c_size_t(index), ctypes.byref(name))
            self.call("GetConstantOriginalFQN", container, ctypes.c_size_t(index), ctypes.byref(original))
            names[(name.value or b"").decode()] = (original.value or b"").decode()
        self.call("Delete", container)
        return names

    def bind(self, constants: Mapping[str, torch.Tensor], num_outputs: int, concurrent_calls: int) -> "AotCall":
        """Return a call that reads these constants, by the library's names, where they are.

        Args:
            constants: all that are not embedded.
            num_outputs: what the graph returns.
            concurrent_calls: how many threads may be in it at once; more wait.
        """
        container = self._new_container(concurrent_calls)
        if constants:
            entries = (_Entry * len(constants))(
                *map(_Entry, map(str.encode, constants), _handles(list(constants.values())))
            )
            inactive, validate = ctypes.c_bool(False), ctypes.c_bool(True)
            function, count = "UpdateUserManagedConstantBufferPairs", ctypes.c_size_t(len(constants))
            self.call(function, container, entries, count, inactive, validate)
        return AotCall(self, container, dict(constants), num_outputs)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the interface.

        Raises:
            BackendError: it failed.
        """
        if getattr(self.library, PREFIX + function)(*arguments):
            raise BackendError(
                f"{self.file.parent.name}/{self.file.name} failed in {function}; the line above says why"
            )

    def _new_container(self, concurrent_calls: int) -> HANDLE:
        container = HANDLE()
        self.call("CreateWithDevice", ctypes.byref(container), ctypes.c_size_t(concurrent_calls), b"cpu", None)
        return container


class AotCall:
    """A container and the tensors it reads."""

    def __init__(
        self, library: AotLibrary, container: HANDLE, constants: Mapping[str, torch.Tensor], num_outputs: int
    ) -> None:
        self._library, self._container, self._num_outputs = library, container, num_outputs
        # Read in place: they live as long as the container.
        self._constants = constants
        weakref.finalize(self, library.call, "Delete", container)

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run it.

        Raises:
            BackendError: it failed, for example on a size outside its ranges.
        """
        num_inputs, num_outputs = len(inputs), self._num_outputs
        handles = (HANDLE * num_inputs)(*_handles(list(inputs)))
        results = (HANDLE * num_outputs)()
        sizes = ctypes.c_size_t(num_inputs), ctypes.c_size_t(num_outputs)
        self._library.call("Run", self._container, handles, sizes[0], results, sizes[1], None, None)
        # Not the function for one tensor: it does not take the handle, which keeps the tensor for ever.
        capsules = [NEW_CAPSULE(result, None, None) for result in results]
        return tuple(torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(capsules))


def open_library(file: Path) -> AotLibrary:
    """Open a library.

    Raises:
        BackendError: it is not a compiled library, or built for another torch.
    """
    try:
        library = ctypes.CDLL(str(file))
        getattr(library, f"{PREFIX}CreateWithDevice")
    except (OSError, AttributeError) as error:
        raise BackendError(f"{file} cannot be opened: {error}") from None
    return AotLibrary(file, library)


def _handles(tensors: list[torch.Tensor]) -> list[int]:
    """Return handles that the callee owns."""
    capsules = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(tensors)
    return [CAPSULE_POINTER(capsule, None) for capsule in capsules]
