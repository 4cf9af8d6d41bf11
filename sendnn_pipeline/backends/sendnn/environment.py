"""Variables that torch_sendnn reads when it is imported: nothing that is set later counts. No torch."""

from collections.abc import Mapping

from sendnn_pipeline.backends.base import Bounds
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.errors import BackendError

CHUNK, CONTEXT, BATCH = "VLLM_DT_CHUNK_LEN", "VLLM_DT_MAX_CONTEXT_LEN", "VLLM_DT_MAX_BATCH_SIZE"
TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
MODE, FRAME, FLEX_DEVICE = "COMPILATION_MODE", "FLEX_OVERWRITE_NMB_FRAME", "FLEX_DEVICE"
DECODER, ENCODER = "offline_decoder", "offline"
# What every run sets; without them the library was imported before its environment was there.
REQUIRED = (MODE, FRAME, CONTEXT, BATCH, TKV_LIMIT)
# The compiler takes no smaller one.
MIN_BATCH = 2
SETTING = "backend.environment"
DISABLE_COMPILATION = "DISABLE_COMPILATION"
CACHE_ENABLE, CACHE_DIR = "TORCH_SENDNN_CACHE_ENABLE", "TORCH_SENDNN_CACHE_DIR"


def device_variables(
    bounds: Bounds, options: SendnnConfig, environ: Mapping[str, str], *, compiles_only: bool
) -> dict[str, str]:
    """Return what the engine's process must have set before it imports torch_sendnn.

    The sizes are the run's own; of everything else, a variable that the user set stays.

    Args:
        bounds: the run's largest sizes.
        options: of the backend.
        environ: the user's.
        compiles_only: whether there is no card.

    Raises:
        BackendError: a limit is not a number, or what is compiled, or was, is nowhere.
    """
    # What is asked for, also where all sequences come to less: it is part of what the library finds its cache by.
    limit = tkv_limit(options) or bounds.max_batch_tkv or bounds.max_length * bounds.max_batch
    variables = {
        MODE: DECODER if bounds.chunk else ENCODER,
        FRAME: "true" if bounds.chunk else "false",
        CONTEXT: str(bounds.max_length),
        BATCH: str(max(MIN_BATCH, bounds.max_batch)),
        TKV_LIMIT: str(limit),
    }
    if bounds.chunk:
        variables[CHUNK] = str(bounds.chunk)
    if compiles_only:
        _check_kept(environ, "backend=sendnn_compile_only would keep nothing of what it compiles")
        variables[FLEX_DEVICE] = "COMPILE"
    if bounds.precompiled:
        _check_kept(environ, "artifacts.require_precompiled_decoders=true, and nothing says where they are")
        variables[DISABLE_COMPILATION] = "true"
    return {name: environ.get(name, text) for name, text in options.environment.items()} | variables


def _check_kept(environ: Mapping[str, str], otherwise: str) -> None:
    if environ.get(CACHE_ENABLE) != "1" or not environ.get(CACHE_DIR):
        raise BackendError(otherwise, hint=f"set {CACHE_ENABLE}=1 and {CACHE_DIR} to a folder")


def tkv_limit(options: SendnnConfig) -> int | None:
    """Return the most sequences times tokens of a decode that are asked for; None where nobody asks.

    Raises:
        BackendError: a known configuration's is not a number.
    """
    text = options.environment.get(TKV_LIMIT)
    if options.max_batch_tkv or not text:
        return options.max_batch_tkv
    if not text.isdecimal() or not int(text):
        raise BackendError(f"{SETTING} has {TKV_LIMIT}={text}, not a number of tokens", hint="use 131072 or less")
    return int(text)
