"""How dynamo is set while Programs are traced, and only then."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from sendnn_pipeline.backends.sendnn.environment import CONTEXT


def recompile_limit(max_length: int) -> int:
    """Return how many graphs dynamo may make of one function, as the plugin for vLLM has it."""
    return max(2 * (max_length - 63), max_length * 5 // 2)


@contextmanager
def tracing_settings(environ: Mapping[str, str], *, dynamic: bool) -> Iterator[None]:
    """Have dynamo's settings for tracing in the block.

    Args:
        environ: the device's variables.
        dynamic: whether sizes are marked dynamic, as a decoder's are.
    """
    dynamo: Any = import_module("torch._dynamo.config")
    limit = recompile_limit(int(environ[CONTEXT]))
    raised = {name: max(limit, getattr(dynamo, name)) for name in ("cache_size_limit", "accumulated_cache_size_limit")}
    with ExitStack() as entered:
        entered.enter_context(dynamo.patch(**raised))
        if dynamic:
            sizes: Any = import_module("torch.fx.experimental._config")
            # Lets sizes of one be sizes like any other; left on, it changes what others compile.
            entered.enter_context(sizes.patch(backed_size_oblivious=True))
        yield
