"""Programs compiled by ``torch.compile`` when they first run."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import CompileBackend, CompiledCall, CompiledProgram, Graph, Limits
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.config.schema import BackendConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


@dataclass(frozen=True, kw_only=True)
class JitConfig(BackendConfig):
    """Options of ``backend=jit``."""

    compiler: str = "inductor"
    """What generates code, by torch.compile's name for it: `inductor`, or `aot_eager` without a C++ compiler."""


@dataclass(frozen=True)
class JitProgram(CompiledProgram):
    call: CompiledCall

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        return self.call  # its parameters are those of the model that was traced


class JitBackend(CompileBackend):
    name = "jit"
    limits = Limits(in_place=True, artifacts="none")

    def __init__(self, options: JitConfig) -> None:
        self.options = options

    def compile(self, graph: Graph) -> JitProgram:
        import torch

        # Each Program is code of its own, and one size: the first call compiles it, in the rehearsals before `seal`.
        module = export_graph(graph).module()
        return JitProgram(torch.compile(module, backend=self.options.compiler, fullgraph=True, dynamic=False))

    def seal(self) -> None:
        import torch

        torch.compiler.set_stance("fail_on_recompile")

    def fingerprint(self) -> dict[str, str]:
        return {"torch": version("torch"), "compiler": self.options.compiler}
