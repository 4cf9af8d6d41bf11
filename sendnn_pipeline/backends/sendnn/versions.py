"""Which torch_sendnn is here, and which torch it goes with, without importing either."""

import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARY = "torch_sendnn"
# As seen together; a torch_sendnn takes the torch that it was built with.
TORCH_OF = {"1.0": "2.7.1", "1.1": "2.7.1", "1.2": "2.10.0"}


def is_here() -> bool:
    """Return whether torch_sendnn can be imported, as far as that shows from outside."""
    return _spec() is not None or LIBRARY in sys.modules


def library_version() -> str:
    """Return torch_sendnn's version; empty where nothing says it.

    An image may have it as a folder without metadata.
    """
    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        spec = _spec()
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "_version.py"
        if file.is_file():
            found = re.search(r"""version\w*\s*=\s*["']([^"']+)""", file.read_text(encoding="utf-8"))
            if found:
                return found[1]
    return ""


def _spec() -> ModuleSpec | None:
    """Return where it is; None where it is not, or where what is imported already does not say."""
    try:
        return importlib.util.find_spec(LIBRARY)
    except ValueError:
        return None


def expected_torch(library: str) -> str:
    """Return the torch that a version of torch_sendnn goes with; empty where that is not known."""
    return next((torch for release, torch in TORCH_OF.items() if library.startswith(f"{release}.")), "")
