"""A compiled Program and its files. Imports torch: for the engine process only."""

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from sendnn_pipeline.backends.base import CompiledProgram, Graph
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.errors import BackendError
from sendnn_zentorch.library import load_compiler, load_kernels

Tensors = Mapping[str, torch.Tensor]
PACKAGE, NAMES, BUFFERS = "program.pt2", "weights.json", "buffers.safetensors"


@dataclass(frozen=True)
class ZentorchProgram(CompiledProgram):
    """Compiled code, and which tensors it reads."""

    name: str
    package: Path
    names: Mapping[str, str]
    """The checkpoint's name of a tensor, by the code's."""
    buffers: Tensors
    """Tensors that are not the checkpoint's, such as positions, by the code's names."""
    holds_parameters: bool = False
    owned: "TemporaryDirectory[str] | None" = field(default=None, repr=False)
    """The folder of a package that is not saved yet."""

    def bind(self, weights: Tensors) -> "ZentorchCall":
        """Return a call that reads the weights where they are."""
        try:
            tensors = {**self.buffers, **{mine: weights[theirs] for mine, theirs in self.names.items()}}
            # What torch._inductor.aoti_load_package() makes; that imports the compiler, for seconds.
            code = torch._C._aoti.AOTIModelPackageLoader(str(self.package), "model", False, 1, -1)
            if tensors:
                wanted = {name: tensors[name] for name in code.get_constant_fqns()}
                # Pointed to, not copied: all Programs share one copy, and what ZenDNN packs of it, once an address.
                code.load_constants(wanted, False, True, True)
        except (KeyError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["?"])[0]
            raise BackendError(f"{self.name} cannot be bound to its weights by zentorch: {reason}") from error
        return ZentorchCall(code, tensors, self.owned)

    def save(self, folder: Path) -> None:
        """Write the code, its names and its buffers into ``folder``."""
        shutil.copyfile(self.package, folder / PACKAGE)
        (folder / NAMES).write_text(json.dumps(dict(self.names)), encoding="utf-8")
        save_file({name: tensor.contiguous().clone() for name, tensor in self.buffers.items()}, folder / BUFFERS)


@dataclass(frozen=True)
class ZentorchCall:
    """Loaded code, with what must live as long: the tensors that it points to, and the folder of its package."""

    code: torch._C._aoti.AOTIModelPackageLoader
    tensors: Tensors
    owned: "TemporaryDirectory[str] | None"

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the code."""
        return tuple(self.code.boxed_run(list(inputs)))


def compile_program(graph: Graph, *, freezing: bool) -> ZentorchProgram:
    """Compile ``graph`` ahead of time with zentorch's pass.

    Raises:
        BackendError: it cannot be traced or compiled, or zentorch replaced nothing in it.
    """
    zentorch = load_compiler()

    def replace_operators(traced: torch.fx.Graph) -> None:
        zentorch.export_optimize_pass(traced)
        if not any(str(node.target).startswith("zentorch.") for node in traced.nodes):
            # It would be backend=inductor by another name.
            raise RuntimeError("zentorch replaced nothing in it")

    exported = export_graph(graph)
    owned = TemporaryDirectory(prefix="sendnn-zentorch-")
    package = Path(owned.name) / PACKAGE
    options = {
        "joint_custom_post_pass": replace_operators,
        "freezing": freezing,
        "aot_inductor.package_constants_in_so": freezing,
        "always_keep_tensor_constants": not freezing,  # else short vectors, such as a small bias, are part of the code
        # They take longer than they save.
        "aot_inductor.precompile_headers": False,
        "cpp_cache_precompile_headers": False,
        "cpp.dynamic_threads": True,  # else code that was compiled for one number of threads crashes under another
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what it deprecates
            torch._inductor.aoti_compile_and_package(exported, package_path=str(package), inductor_configs=options)
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:300]}"
        raise BackendError(
            f"zentorch cannot compile {graph.name}: {reason}", hint="backend=inductor does without zentorch"
        ) from error
    if freezing:
        return ZentorchProgram(graph.name, package, {}, {}, holds_parameters=True, owned=owned)
    checkpoint, tensors = graph.parameters(), {**exported.state_dict, **exported.constants}
    names = {name: checkpoint[name] for name in tensors if name in checkpoint}
    buffers = {name: tensor for name, tensor in tensors.items() if name not in names}
    holds_parameters = any(name in exported.graph_signature.parameters for name in buffers)
    return ZentorchProgram(graph.name, package, names, buffers, holds_parameters, owned)


def open_program(folder: Path, name: str) -> ZentorchProgram:
    """Open what ``ZentorchProgram.save`` wrote.

    Raises:
        BackendError: it or zentorch cannot be loaded.
    """
    load_kernels()
    try:
        names = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        return ZentorchProgram(name, folder / PACKAGE, names, load_file(folder / BUFFERS))
    except (OSError, ValueError) as error:
        raise BackendError(f"zentorch cannot open {folder}: {(str(error).splitlines() or ['?'])[0]}") from error
