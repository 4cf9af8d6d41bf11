"""The library as it is installed."""

import ctypes
import os
import runpy
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sendnn_pipeline.errors import BackendError


def installed_folder() -> Path:
    """Find zentorch without importing it.

    Raises:
        BackendError: it is not installed.
    """
    spec = find_spec("zentorch")
    if spec is None or not spec.submodule_search_locations:
        raise BackendError("backend=zentorch: zentorch is not installed", hint="pip install zentorch==2.13.0.1")
    return Path(spec.submodule_search_locations[0])


def check_installed() -> None:
    """Check, importing nothing, that zentorch is here and was built for the torch that is here.

    On another minor version of torch, zentorch would load a library with a part of its operators and warn.

    Raises:
        BackendError: zentorch is not installed, or was built for another torch.
    """
    # A file of constants that zentorch's build writes; running it does not import the package.
    built = runpy.run_path(str(installed_folder() / "_build_info.py"))
    torch, needed = version("torch"), built["__torchversion__"]
    if torch.split(".")[:2] != needed.split(".")[:2]:
        raise BackendError(
            f"backend=zentorch: zentorch {built['__version__']} was built for torch {needed}, here is torch {torch}",
            hint="install the zentorch whose version begins as torch's does",
        )


def load_kernels() -> None:
    """Load what compiled code calls. Importing zentorch does so too, and 6 s of other things that only compiling needs.

    Raises:
        BackendError: the library cannot be loaded.
    """
    import torch  # noqa: F401 - the library's own symbols are in torch's

    try:
        # For all to see: compiled code looks for the kernels among the process's symbols.
        ctypes.CDLL(str(installed_folder() / "libzentorch.so"), mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    except OSError as error:
        raise BackendError(f"zentorch cannot be loaded: {error}") from error


def load_compiler() -> ModuleType:
    """Import zentorch.

    Raises:
        BackendError: it cannot be imported, or only a part of it.
    """
    try:
        zentorch = import_module("zentorch")
    except (ImportError, OSError) as error:
        raise BackendError(f"zentorch cannot be imported: {(str(error).splitlines() or ['?'])[0]}") from error
    if zentorch.__stable_abi_only__:
        raise BackendError("zentorch was built for another torch and loaded only a part of its operators")
    return zentorch
