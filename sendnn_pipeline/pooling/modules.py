"""What follows the pooling: the modules of sentence-transformers that this engine has. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.json_files import convert, read_object, read_struct
from sendnn_pipeline.models.sentence_files import MODULE_WEIGHTS, ModuleEntry, module_name

# Classes of torch.nn that are made without arguments, by the last part of the name in a module's config.json.
# fmt: off
ACTIVATIONS = (
    "Identity", "Tanh", "ReLU", "ReLU6", "LeakyReLU", "GELU", "SiLU", "Mish", "ELU", "SELU", "CELU", "Sigmoid",
    "LogSigmoid", "Softplus", "Softsign", "Hardtanh", "Hardswish", "Tanhshrink",
)
# fmt: on
VECTOR = "sentence_embedding"
USE_ANOTHER = "use another model; sendnn_pipeline/pooling/README.md lists what is supported"


@dataclass(frozen=True)
class Dense:
    """A linear layer and an activation."""

    name: str
    """Of its weights, too."""
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool
    """Whether its input is added to what it gives."""

    def __str__(self) -> str:
        added = " + its input" if self.residual else ""
        return f"dense {self.in_features} to {self.out_features} ({self.activation}){added}"


@dataclass(frozen=True)
class LayerNorm:
    """Mean and variance of every vector taken out, and scaled."""

    name: str
    size: int

    def __str__(self) -> str:
        return "layer norm"


@dataclass(frozen=True)
class Normalize:
    """Every vector scaled to length one."""

    def __str__(self) -> str:
        return "normalize"


@dataclass(frozen=True)
class Truncate:
    """The first numbers of every vector."""

    size: int

    def __str__(self) -> str:
        return f"first {self.size}"


Module = Dense | LayerNorm | Normalize | Truncate


class DenseFile(msgspec.Struct, frozen=True):
    """config.json of a Dense module."""

    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False
    module_input_name: str = VECTOR
    module_output_name: str | None = None


class LayerNormFile(msgspec.Struct, frozen=True):
    """config.json of a LayerNorm module."""

    dimension: int


class NormalizeFile(msgspec.Struct, frozen=True):
    """config.json of a Normalize module, where it has one."""

    module_input_name: str = VECTOR
    module_output_name: str | None = None


def read_module(folder: Path, entry: ModuleEntry) -> Module | None:
    """Return a module that follows the pooling; None for one that does nothing when vectors are made.

    Raises:
        ModelError: it is of a kind that is not here, or its files are missing or broken.
    """
    file = folder / entry.path / "config.json"
    if entry.kind == "Dropout":
        return None
    if entry.kind == "Normalize":
        options = read_struct(file, NormalizeFile)
        _check_names(file, options.module_input_name, options.module_output_name)
        return Normalize()
    if entry.kind == "Dense":
        dense = convert(read_object(file, required=True), DenseFile, file)
        _check_names(file, dense.module_input_name, dense.module_output_name)
        _check_weights(file.parent)
        return Dense(
            module_name(entry.path),
            dense.in_features,
            dense.out_features,
            dense.bias,
            _activation(file, dense.activation_function),
            dense.use_residual,
        )
    if entry.kind == "LayerNorm":
        _check_weights(file.parent)
        size = convert(read_object(file, required=True), LayerNormFile, file).dimension
        return LayerNorm(module_name(entry.path), size)
    raise ModelError(f"{folder / 'modules.json'} has a module {entry.kind}, which is not supported", hint=USE_ANOTHER)


def output_size(pooled_size: int, modules: Sequence[Module]) -> int:
    """Return the numbers of every vector.

    Args:
        pooled_size: numbers that the pooling gives.
        modules: what follows.

    Raises:
        ModelError: a module takes other vectors than the ones before it give.
    """
    size = pooled_size
    for module in modules:
        if isinstance(module, Dense | LayerNorm):
            takes = module.in_features if isinstance(module, Dense) else module.size
            if takes != size:
                raise ModelError(
                    f"the module {module.name} takes vectors of {takes} numbers, and it would get {size}",
                    hint="is engine.pooling set to other than the model's own?",
                )
        size = module.out_features if isinstance(module, Dense) else size
        size = min(size, module.size) if isinstance(module, Truncate) else size
    return size


def with_normalize(modules: Sequence[Module], normalize: bool) -> tuple[Module, ...]:
    """Return the modules so that vectors come out of length one, or as they come without the last scaling."""
    ends = bool(modules) and isinstance(modules[-1], Normalize)
    if ends == normalize:
        return tuple(modules)
    return (*modules, Normalize()) if normalize else tuple(modules[:-1])


def _check_names(file: Path, takes: str, gives: str | None) -> None:
    if takes != VECTOR or gives not in (None, VECTOR):
        raise ModelError(
            f"{file} works on {takes} to {gives or takes}, and only {VECTOR} is supported", hint=USE_ANOTHER
        )


def _check_weights(folder: Path) -> None:
    if not (folder / MODULE_WEIGHTS).is_file():
        others = [file.name for file in sorted(folder.glob("*.bin"))]
        found = f"; {others[0]} is pickled and is never loaded" if others else ""
        raise ModelError(f"{folder} has no {MODULE_WEIGHTS}{found}", hint="convert the weights to safetensors")


def _activation(file: Path, named: str) -> str:
    name = named.rsplit(".", 1)[-1]
    if not named.startswith("torch.") or name not in ACTIVATIONS:
        raise ModelError(f"{file} asks for the activation {named}, which is not supported", hint=USE_ANOTHER)
    return name
