"""A second reading of the device's rules, as strict and as bare as they can be read.

It has what the rules name and nothing beside: no version, no state to look into, one function for warmup. It computes
what is asked through AOTAutograd, and knows inputs by their names.
"""

import os
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module

from torch_sendnn._card import card

REGISTERED = os.environ.get("TORCH_SENDNN_EMULATED_REGISTRATION", "import")
if REGISTERED == "import":
    import_module("torch_sendnn.torch_sendnn")


def warmup_mode(enabled: bool = True) -> AbstractContextManager[None]:
    """Collect graphs from this call on; leaving the context compiles them, whatever happened in it."""
    if enabled:
        card.begin()
    return _collecting(enabled)


@contextmanager
def _collecting(enabled):
    try:
        yield
    finally:
        if enabled:
            card.compile()


def __getattr__(name):
    if name == "backends":
        raise RuntimeError("the state of this release is nobody else's")
    raise AttributeError(name)
