"""The built-in compile backends, registered as any plugin's are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.config import InductorConfig, SendnnConfig
from sendnn_pipeline.hooks import hookimpl

if TYPE_CHECKING:
    from sendnn_pipeline.backends.base import CompileBackend
    from sendnn_pipeline.config.schema import BackendConfig
    from sendnn_pipeline.engines.run import Run

    BackendFactory = Callable[[BackendConfig], CompileBackend]


@hookimpl
def register_schemas(store: Callable[[str, str, type], None]) -> None:
    """Type the options of inductor and sendnn."""
    store("backend", "inductor", InductorConfig)
    store("backend", "sendnn", SendnnConfig)
    store("backend", "sendnn_compile_only", SendnnConfig)


@hookimpl
def check_config(run: "Run") -> list[str]:
    """Return what a Spyre card would refuse, some of it after half an hour."""
    from sendnn_pipeline.backends.sendnn.checks import find_problems

    return find_problems(run)


@hookimpl
def register_compile_backends(register: "Callable[[str, BackendFactory], None]") -> None:
    """Register eager, inductor and both of sendnn's; each module is imported when its name is chosen."""
    register("eager", _eager)
    register("inductor", _inductor)
    register("sendnn", _sendnn)
    register("sendnn_compile_only", _sendnn)


def _eager(options: "BackendConfig") -> "CompileBackend":
    from sendnn_pipeline.backends.eager import EagerBackend

    return EagerBackend(options)


def _inductor(options: "BackendConfig") -> "CompileBackend":
    from sendnn_pipeline.backends.inductor import InductorBackend

    assert isinstance(options, InductorConfig)
    return InductorBackend(options)


def _sendnn(options: "BackendConfig") -> "CompileBackend":
    from sendnn_pipeline.backends.sendnn.backend import SendnnBackend

    assert isinstance(options, SendnnConfig)
    return SendnnBackend(options)
