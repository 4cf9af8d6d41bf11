"""PyTorch's own compiler for CPUs: ahead of time, into a library that opens in a millisecond without a compiler."""

import json
import shutil
import sysconfig
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Graph, Limits, type_function
from sendnn_pipeline.backends.export import checkpoint_names, export_graph
from sendnn_pipeline.config.schema import BackendConfig
from sendnn_pipeline.errors import BackendError
from sendnn_pipeline.programs.checkpoint import content_digest

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.backends.aot_library import AotLibrary
    from sendnn_pipeline.config.resolve import Run
    from sendnn_pipeline.config.schema import RunConfig

# What an artifact is made of; another number does not open these.
FILES = "2"
LIBRARY, CONSTANTS, EMBEDDED = "program.so", "constants.json", "constants.safetensors"


@dataclass(frozen=True, kw_only=True)
class InductorConfig(BackendConfig):
    """Options of ``backend=inductor``."""

    freezing: bool | None = None
    """Fold the weights into each Program, prepacked; null does so for bfloat16 only: see programs/README.md."""


@dataclass
class AotProgram:
    """An opened library, and what ``save`` needs of it."""

    library: "AotLibrary"
    names: Mapping[str, str]
    """The checkpoint's name of a constant, for those that are the checkpoint's."""
    owned: "tempfile.TemporaryDirectory[str] | None" = field(default=None, repr=False)
    bound_to: str = ""
    """Digest of the only weights that it is for, where it holds a parameter that is none of the checkpoint's names."""

    def __call__(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """Run it."""
        return self.library(*inputs)


class InductorBackend:
    """Compiles each Program with AOTInductor."""

    name = "inductor"

    def limits(self, config: "RunConfig") -> Limits:
        """Take any size between two bounds: as fast as fixed sizes, see programs/README.md."""
        return Limits(ranges=True, streams=True)

    def prepare(self, run: "Run", environ: Mapping[str, str]) -> dict[str, str]:
        """Find the C++ compiler and Python's headers, and make the folder of compiled code."""
        compiler = environ.get("CXX", "g++")
        if shutil.which(compiler, path=environ.get("PATH")) is None:
            raise BackendError(
                f"backend=inductor needs a C++ compiler, and {compiler} is not on PATH",
                hint="install g++, set CXX, or use backend=eager",
            )
        header = Path(sysconfig.get_paths()["include"]) / "Python.h"
        if not header.is_file():
            raise BackendError(
                f"backend=inductor needs Python's headers, and {header} is missing",
                hint="install the python3-dev package, or use backend=eager",
            )
        folder = Path(environ.get("TORCHINDUCTOR_CACHE_DIR") or run.cache_dir / "inductor")
        check_writable(folder)
        return {"TORCHINDUCTOR_CACHE_DIR": str(folder)}

    def compile(self, graph: Graph, run: "Run") -> AotProgram:
        """Export the graph and generate, build and open its library."""
        frozen = self.embeds_weights(run)
        options = {
            "freezing": frozen,
            "aot_inductor.package_constants_in_so": frozen,
            # Else the number of threads at compile time is baked in, and any other crashes.
            "cpp.dynamic_threads": True,
        }
        owned = tempfile.TemporaryDirectory(prefix="sendnn_pipeline-")
        from sendnn_pipeline.backends.aot_library import open_library

        try:
            import torch._inductor

            with warnings.catch_warnings():
                # Torch's own use of what it deprecates.
                warnings.simplefilter("ignore", FutureWarning)
                exported = export_graph(graph)
                package = torch._inductor.aoti_compile_and_package(
                    exported, package_path=f"{owned.name}/program.pt2", inductor_configs=options
                )
            library = Path(owned.name) / LIBRARY
            with zipfile.ZipFile(package) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(".so")]
                library.write_bytes(archive.read(member))
            Path(package).unlink()
            opened = open_library(library, run.streams)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(
                f"{graph.name} does not compile: {type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:300]}",
                hint="backend=eager runs without a compiler",
            ) from error
        if frozen:
            return AotProgram(opened, {}, owned)
        tensors = {**exported.state_dict, **exported.constants}
        wanted = opened.originals()
        found = checkpoint_names(tensors, graph.weights)
        names = {name: found[original] for name, original in wanted.items() if original in found}
        constants = {
            name: graph.weights[names[name]] if name in names else tensors[original].detach().contiguous()
            for name, original in wanted.items()
        }
        if constants:
            opened.use(constants)
        parameters = exported.graph_signature.parameters
        strange = any(original in parameters for name, original in wanted.items() if name not in names)
        return AotProgram(opened, names, owned, content_digest(run.model) if strange else "")

    def save(self, compiled: type_function, folder: Path) -> None:
        """Write the library, the names of its constants, and those that are not the checkpoint's."""
        from safetensors.torch import save_file

        assert isinstance(compiled, AotProgram)
        shutil.copyfile(compiled.library.file, folder / LIBRARY)
        kept = {"names": dict(compiled.names), "bound_to": compiled.bound_to}
        (folder / CONSTANTS).write_text(json.dumps(kept, indent=1))
        others = {name: held.clone() for name, held in compiled.library.constants.items() if name not in compiled.names}
        save_file(others, folder / EMBEDDED)

    def load(self, folder: Path, weights: "Mapping[str, torch.Tensor]", run: "Run") -> AotProgram:
        """Open a library over the checkpoint's tensors, which it shares with every other Program."""
        from safetensors.torch import load_file

        from sendnn_pipeline.backends.aot_library import open_library

        try:
            kept = json.loads((folder / CONSTANTS).read_text())
            if kept["bound_to"] and kept["bound_to"] != content_digest(run.model):
                raise ValueError("it holds parameters of other weights")
            names = kept["names"]
            constants = {name: weights[original] for name, original in names.items()}
            constants |= load_file(folder / EMBEDDED)
            opened = open_library(folder / LIBRARY, run.streams)
            if constants:
                opened.use(constants)
        except Exception as error:
            raise BackendError(
                f"{folder} cannot be opened: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
                hint="remove it with the catalog tool; it is compiled again",
            ) from error
        return AotProgram(opened, names)

    def portable(self, run: "Run") -> bool:
        """Say yes."""
        return True

    def embeds_weights(self, run: "Run") -> bool:
        """Say whether the weights are folded in."""
        freezing = getattr(run.config.backend, "freezing", None)
        return run.config.model.dtype == "bfloat16" if freezing is None else bool(freezing)

    def fingerprint(self, run: "Run") -> dict[str, str]:
        """Return torch's version and whether weights are folded in."""
        return {"torch": version("torch"), "freezing": str(self.embeds_weights(run)).lower(), "files": FILES}


def check_writable(folder: Path) -> None:
    """Make ``folder`` and prove that files can be written there.

    Raises:
        BackendError: they cannot.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(
            f"the compiler's cache {folder} cannot be written: {error.strerror}",
            hint="set cache_dir= to a folder that can",
        ) from None
