"""A library that AOTInductor built, with the names of the weights that it reads, and how it reads them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sendnn_pipeline.backends.base import CompiledCall, CompiledProgram, Graph
from sendnn_pipeline.errors import BackendError

if TYPE_CHECKING:
    import torch

    from sendnn_pipeline.backends.aot_library import AotLibrary
    from sendnn_pipeline.backends.weight_copies import WeightCopies

LIBRARY, CONSTANTS, EMBEDDED = "program.so", "constants.json", "constants.safetensors"


@dataclass(frozen=True)
class ConstantNames:
    """The checkpoint's names of what a library reads, by the library's."""

    names: Mapping[str, str]
    packed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of what is read as one weight in oneDNN's own layout, all names."""


@dataclass(frozen=True)
class AotProgram(CompiledProgram):
    """A compiled library, the names of the weights that it reads, and the other tensors that it does."""

    library: "AotLibrary"
    graph: Graph
    constants: ConstantNames
    others: "Mapping[str, torch.Tensor]"
    """Constants that are not the checkpoint's, by the library's names."""
    copies: "WeightCopies"
    """Of weights, which all Programs of a run share."""
    holds_parameters: bool = False

    def bind(self, weights: "Mapping[str, torch.Tensor]") -> CompiledCall:
        """Return a call over these weights, which it shares with every other."""
        names, copies = self.constants, self.copies
        try:
            found = {name: weights[original] for name, original in names.names.items()}
            found |= {name: copies.packed([weights[one] for one in all_]) for name, all_ in names.packed.items()}
        except KeyError as error:
            raise BackendError(f"{self.graph.name} reads the weight {error}, which the checkpoint lacks") from None
        return self.library.bind(found | dict(self.others), len(self.graph.outputs), self.graph.concurrent_calls)

    def save(self, folder: Path) -> None:
        """Write the library, the names of its constants, and those that are not the checkpoint's."""
        from safetensors.torch import save_file

        shutil.copyfile(self.library.file, folder / LIBRARY)
        (folder / CONSTANTS).write_bytes(msgspec.json.format(msgspec.json.encode(self.constants), indent=1))
        save_file({name: tensor.clone() for name, tensor in self.others.items()}, folder / EMBEDDED)
