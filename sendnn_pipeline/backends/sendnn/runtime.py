"""torch_sendnn imported, and what it found in its environment compared with what the run asks for."""

import importlib
import logging
import sys
from collections.abc import Mapping
from typing import Any

from sendnn_pipeline.backends.sendnn.environment import (
    BATCH,
    CACHE_ENABLE,
    CHUNK,
    CONTEXT,
    DECODER,
    MODE,
    REQUIRED,
    TKV_LIMIT,
)
from sendnn_pipeline.backends.sendnn.versions import LIBRARY
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.machine.environ import process_environment

NEW_PROCESS = "it reads its environment when it is imported: start a new process, and let the engine import it"
# The library's names of its limits, by variable.
LIMITS = {
    CHUNK: "vllm_chunk_length",
    CONTEXT: "vllm_max_context_length",
    BATCH: "vllm_max_batch_size",
    TKV_LIMIT: "vllm_max_batch_tkv_limit",
}
log = logging.getLogger(__name__)


def import_runtime(dynamo_backend: str) -> Any:
    """Import torch_sendnn and return it.

    Args:
        dynamo_backend: which must be registered once it is imported.

    Raises:
        BackendError: it cannot be imported, lacks the backend, or was imported with another environment.
    """
    environ = process_environment()
    lacking = next((name for name in REQUIRED if name not in environ), None)
    if lacking is not None:
        already = "was imported" if LIBRARY in sys.modules else "would be imported"
        raise BackendError(f"{LIBRARY} {already} without {lacking}", hint=NEW_PROCESS)
    try:
        runtime = importlib.import_module(LIBRARY)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BackendError(
            f"{LIBRARY} cannot be imported: {type(error).__name__}: {reason}",
            hint="does it belong to this torch? `doctor backend=sendnn` compares versions",
        ) from error
    _check_captured(runtime, environ)
    if not _is_registered(dynamo_backend):
        raise BackendError(
            f"{LIBRARY} registers no dynamo backend {dynamo_backend}", hint="is this release of it complete?"
        )
    return runtime


def _is_registered(dynamo_backend: str) -> bool:
    """Return whether dynamo knows the backend: of older releases, once the name was imported that registers it."""
    import torch

    if dynamo_backend not in torch._dynamo.list_backends(exclude_tags=()):
        # As `from torch_sendnn import torch_sendnn` does it, where there is such a name.
        __import__(LIBRARY, fromlist=[LIBRARY])
    return dynamo_backend in torch._dynamo.list_backends(exclude_tags=())


def _check_captured(runtime: Any, environ: Mapping[str, str]) -> None:
    """Compare what the library says that it found with the environment, as far as it says anything.

    Of generation with a cache only: else nothing is known of what its limits are there.
    """
    if environ.get(MODE) != DECODER or environ.get(CACHE_ENABLE) != "1":
        return
    captured = read_captured(runtime)
    if captured is None:
        log.debug("torch_sendnn does not tell what it found in its environment")
        return
    for name, theirs in LIMITS.items():
        wanted, found = environ.get(name), captured.get(theirs)
        if wanted is not None and found and str(found) != wanted:
            raise BackendError(
                f"{LIBRARY} was imported with {name}={found}, and this run needs {wanted}", hint=NEW_PROCESS
            )


def read_captured(runtime: Any) -> Mapping[str, Any] | None:
    """Return the library's limits by its own names; None where its inner state, which is private, is another.

    It is somebody else's code that is asked for what it never promised: whatever it raises means no.
    """
    try:
        state = getattr(runtime.backends.sendnn_backend, "__state")
        config = state.spyre_graph_cache.deeptools_config["config"]
    except Exception:
        return None
    return config if isinstance(config, Mapping) else None
