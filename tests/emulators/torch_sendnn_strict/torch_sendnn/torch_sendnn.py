"""The old door: its import registers the dynamo backends, where nothing else did."""

from torch._dynamo.backends import registry

from torch_sendnn._graph import sendnn, sendnn_compile_only


def update_lazyhandle():
    raise RuntimeError("of a life cycle that warmup_mode replaced")


preserve_lazyhandle = release_lazyhandle = update_lazyhandle

for _function in (sendnn, sendnn_compile_only):
    # A process that imports this anew, as tests do, means the new one.
    registry._COMPILER_FNS.pop(_function.__name__, None)
    registry._BACKENDS.pop(_function.__name__, None)
    registry.register_backend(_function, name=_function.__name__)
