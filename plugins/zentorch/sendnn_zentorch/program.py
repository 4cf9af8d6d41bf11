"""A compiled Program and the files it is kept in. Imports torch: for the engine process only."""

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from sendnn_pipeline.backends.base import Graph
from sendnn_pipeline.backends.export import checkpoint_names, export_graph
from sendnn_pipeline.errors import BackendError
from sendnn_zentorch.library import load_compiler, load_kernels

type_tensors = Mapping[str, torch.Tensor]
PACKAGE, NAMES, BUFFERS = "program.pt2", "weights.json", "buffers.safetensors"


@dataclass(frozen=True)
class Program:
    """Compiled code, with the tensors that it reads but does not hold."""

    code: torch._C._aoti.AOTIModelPackageLoader
    package: Path
    names: Mapping[str, str]
    """The code's names of the checkpoint's tensors, with the checkpoint's names."""
    buffers: type_tensors
    """What else the code reads: tensors that the model makes up, such as positions. By the code's names."""
    held: object
    """What must live as long as the code does: the tensors it points to, the folder of the package."""

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run the code."""
        (output,) = self.code.boxed_run(list(inputs))
        return output

    def save(self, folder: Path) -> None:
        """Write the code, its names and its buffers into ``folder``."""
        shutil.copyfile(self.package, folder / PACKAGE)
        (folder / NAMES).write_text(json.dumps(dict(self.names)))
        save_file({name: held.contiguous().clone() for name, held in self.buffers.items()}, folder / BUFFERS)


def compile_program(graph: Graph, *, freezing: bool) -> Program:
    """Compile ``graph`` ahead of time with zentorch's pass.

    Raises:
        BackendError: it cannot be traced or compiled, zentorch replaced nothing in it, or it is to share weights that
            are not the checkpoint's.
    """
    zentorch = load_compiler()

    def replace_operators(traced: torch.fx.Graph) -> None:
        zentorch.export_optimize_pass(traced)
        if not any(str(node.target).startswith("zentorch.") for node in traced.nodes):
            # It would be backend=inductor by another name.
            raise RuntimeError("zentorch replaced nothing in it")

    exported = export_graph(graph)
    tensors = {} if freezing else {**exported.state_dict, **exported.constants}
    names = checkpoint_names(tensors, graph.weights)
    strange = [name for name in exported.graph_signature.parameters if name in tensors and name not in names]
    if strange:
        raise BackendError(f"{graph.name}: the checkpoint has no {strange[0]}", hint="use backend.freezing=true")
    folder = TemporaryDirectory(prefix="sendnn-zentorch-")
    package = Path(folder.name) / PACKAGE
    options = {
        "joint_custom_post_pass": replace_operators,
        "freezing": freezing,
        "aot_inductor.package_constants_in_so": freezing,
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
    buffers = {name: held for name, held in tensors.items() if name not in names}
    return open_program(package, names, buffers, graph.weights, held=folder)


def open_program(
    package: Path, names: Mapping[str, str], buffers: type_tensors, weights: type_tensors, *, held: object = None
) -> Program:
    """Load compiled code and point it to its tensors; ``held`` is what else must live as long as the code."""
    # What torch._inductor.aoti_load_package() makes; that imports the compiler, for seconds.
    code = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)
    tensors = {**buffers, **{mine: weights[theirs] for mine, theirs in names.items()}}
    if tensors:
        wanted = {name: tensors[name] for name in code.get_constant_fqns()}
        # Pointed to, not copied: all Programs share one copy, and what ZenDNN packs of it, once for each address.
        code.load_constants(wanted, False, True, True)
    return Program(code, package, names, buffers, (tensors, held))


def load_program(folder: Path, weights: type_tensors) -> Program:
    """Open what ``Program.save`` wrote.

    Raises:
        BackendError: it or zentorch cannot be loaded.
    """
    load_kernels()
    try:
        names = json.loads((folder / NAMES).read_text())
        return open_program(folder / PACKAGE, names, load_file(folder / BUFFERS), weights)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackendError(f"zentorch cannot open {folder}: {(str(error).splitlines() or ['?'])[0]}") from error
