"""PyTorch's own compiler for CPUs: ahead of time, into a library that opens in a millisecond without a compiler."""

import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sendnn_pipeline.backends.aot_program import CONSTANTS, EMBEDDED, LIBRARY, AotProgram, ConstantNames
from sendnn_pipeline.backends.base import DTYPES, CompileBackend, Graph, Limits
from sendnn_pipeline.backends.build import EXP_OF_HALVES, SOURCES_ONLY, build_library
from sendnn_pipeline.backends.compiler import (
    CACHE_VARIABLE,
    EAGER,
    PREFIX,
    check_cache,
    check_compiler,
    compiler_words,
    mounted_noexec,
    single_command,
    what_failed,
)
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.export import export_graph
from sendnn_pipeline.backends.instructions import asked_by_flags
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.machine.environ import process_environment

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.backends.weight_copies import WeightCopies

# What an artifact is made of; another number does not open these.
FILES = "8"
# Unfrozen, float32 is as fast and weights are shared; see programs/README.md.
FROZEN_BY_DEFAULT = ("bfloat16",)
# Torch traces and generates for one caller at a time, whoever it is; meanwhile another Program may be built.
TRACING = threading.Lock()
# Attention over a cache is the inner loop of a decoder, and its indices are the scheduler's own.
CACHE_OPTIONS = {"assert_indirect_indexing": False, "cpp.enable_floating_point_contract_flag": "fast"}


class InductorBackend(CompileBackend):
    """Compiles each Program with AOTInductor."""

    name = "inductor"

    def __init__(self, options: InductorConfig) -> None:
        frozen = {None: FROZEN_BY_DEFAULT, True: DTYPES, False: ()}[options.freezing]
        self.limits = Limits(
            ranges=True,
            concurrent_steps=True,
            embeds_weights=frozen,
            exchangeable_weights=options.freezing is not True,
            in_place=True,
            helpers=True,
            single_rows=("bfloat16", "float16"),
            concurrent_compiles=True,
            artifacts="files",
        )

    @cached_property
    def copies(self) -> "WeightCopies":
        """Copies of weights, which all Programs of a run share."""
        from sendnn_pipeline.backends.weight_copies import WeightCopies

        return WeightCopies()

    def prepare(self, cache_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
        """Say where the compiler's own cache is; it is made, and proved, where something has to be compiled."""
        return {CACHE_VARIABLE: environ.get(CACHE_VARIABLE) or str(cache_dir / "inductor")}

    def compile(self, graph: Graph) -> AotProgram:
        """Export the graph and generate, build and open its library."""
        environ = process_environment()
        check_compiler(environ)
        cache = environ.get(CACHE_VARIABLE)
        if cache:
            check_cache(Path(cache))
        # Until it is saved; once it is open, the library needs its file no more. In the cache and not where temporary
        # files go: those are often mounted noexec.
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=cache))
        frozen = self._is_frozen(graph)
        options = {
            "cpp.cxx": (None, single_command(compiler_words(environ), folder)),
            "freezing": frozen,
            "aot_inductor.package_constants_in_so": frozen,
            # Else vectors of up to eight numbers, such as a classifier's bias, become part of the code.
            "always_keep_tensor_constants": not frozen,
            # Else the number of threads at compile time is baked in, and any other crashes.
            "cpp.dynamic_threads": True,
            # Else a dozen test programs are built, each for a second or two, to learn what torch knows of this CPU.
            "cpp.vec_isa_ok": True,
            **SOURCES_ONLY,
            **(CACHE_OPTIONS if graph.written else {}),
        }
        try:
            compiled = self._compile(graph, folder, options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(compiled, shutil.rmtree, folder, ignore_errors=True)
        return compiled

    def _compile(self, graph: Graph, folder: Path, options: Mapping[str, Any]) -> AotProgram:
        from sendnn_pipeline.backends.aot_library import open_library
        from sendnn_pipeline.backends.packing import arrange_products

        library = folder / LIBRARY
        try:
            with TRACING, warnings.catch_warnings(), asked_by_flags():
                import torch._inductor.config

                # Torch's own use of what it deprecates.
                warnings.simplefilter("ignore", FutureWarning)
                exported, checkpoint = export_graph(graph), graph.parameters()
                packed = arrange_products(exported, graph, checkpoint)
                package = torch._inductor.aoti_compile_and_package(
                    exported, package_path=str(folder / "program.pt2"), inductor_configs=dict(options)
                )
            # Torch's own option: O1, unless its variable says otherwise.
            level = torch._inductor.config.aot_inductor.compile_wrapper_opt_level
            build_library(Path(package), library, level, {} if graph.dtype == "float32" else EXP_OF_HALVES)
            opened = open_library(library)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"{graph.name} does not compile: {what_failed(error)}", hint=EAGER) from error
        if self._is_frozen(graph):
            return AotProgram(opened, graph, ConstantNames({}), {}, self.copies, holds_parameters=True)
        constants = opened.constants()
        names = {name: checkpoint[original] for name, original in constants.items() if original in checkpoint}
        tensors = {**exported.state_dict, **exported.constants}
        made = next((one for one in constants.values() if one not in checkpoint and one not in tensors), None)
        if made is not None:
            raise BackendError(f"{graph.name} does not compile: its constant {made} is the compiler's own", hint=EAGER)
        others = {name: tensors[one].detach().contiguous() for name, one in constants.items() if name not in names}
        parameters = exported.graph_signature.parameters
        holds_parameters = any(constants[name] in parameters for name in others)
        embedded = embedded_weights(exported, constants.values(), checkpoint)
        own_layout = {
            name: [checkpoint[one] for one in packed[original]]
            for name, original in constants.items()
            if original in packed and name in names
        }
        embeds = holds_parameters or bool(embedded)
        return AotProgram(opened, graph, ConstantNames(names, own_layout), others, self.copies, embeds)

    def _is_frozen(self, graph: Graph) -> bool:
        return graph.dtype in self.limits.embeds_weights and not graph.shares_weights

    def open(self, folder: Path, graph: Graph) -> AotProgram:
        """Open a library."""
        from safetensors.torch import load_file

        from sendnn_pipeline.backends.aot_library import open_library

        try:
            names = msgspec.json.decode((folder / CONSTANTS).read_bytes(), type=ConstantNames)
            return AotProgram(open_library(folder / LIBRARY), graph, names, load_file(folder / EMBEDDED), self.copies)
        except Exception as error:
            why = "its file system is mounted noexec" if mounted_noexec(folder) else ""
            why = why or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise BackendError(f"{folder} cannot be opened: {why}") from error

    def fingerprint(self) -> dict[str, str]:
        """Return torch's version and the form of the files."""
        return {"torch": version("torch"), "files": FILES}


def embedded_weights(
    exported: "torch.export.ExportedProgram", constants: Iterable[str], checkpoint: Iterable[str]
) -> set[str]:
    """Return the parameters, and other tensors of the checkpoint, that the graph reads and the library does not.

    Args:
        exported: the graph.
        constants: exported names of what the library reads.
        checkpoint: exported names of what is the checkpoint's.
    """
    signature = exported.graph_signature
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {**exported.state_dict, **exported.constants}
    # Parameters that are one tensor have one name in the library.
    read = {tensors[name].data_ptr() for name in constants}
    used = {targets[node.name] for node in _alive(exported.graph) if node.name in targets}
    return {name for name in used & {*signature.parameters, *checkpoint} if tensors[name].data_ptr() not in read}


def _alive(graph: "torch.fx.Graph") -> "set[torch.fx.Node]":
    """Return the nodes that an output, or something written, needs: of others the compiler makes nothing."""
    found: set[torch.fx.Node] = set()
    next_ones = [node for node in graph.nodes if node.op == "output" or (node.op != "placeholder" and node.is_impure())]
    while next_ones:
        node = next_ones.pop()
        if node not in found:
            found.add(node)
            next_ones.extend(node.all_input_nodes)
    return found
