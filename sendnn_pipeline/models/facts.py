"""What every model's own files say, whatever runs it. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import BOM
from sendnn_pipeline.models.checkpoint import Checkpoint, read_checkpoint
from sendnn_pipeline.models.json_files import convert, file_in, read_config_json, read_struct
from sendnn_pipeline.models.positions import read_positions
from sendnn_pipeline.models.sentence_files import read_module_weights
from sendnn_pipeline.programs.quantized import FILE as QUANTIZED_FILE

Count = Annotated[int, msgspec.Meta(ge=1)]
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Of these the numbers of a token's hidden state are d_model; their encoder is loaded alone.
D_MODEL_TYPES = ("t5", "mt5", "umt5")
MAX_TOKENS_NAMED = 8


class TextConfig(msgspec.Struct):
    """What config.json says of the text model, under the names that architectures have for it."""

    vocab_size: Count
    hidden_size: Count | None = None
    dim: Count | None = None
    d_model: Count | None = None
    n_embd: Count | None = None
    max_position_embeddings: int | None = None
    n_positions: int | None = None
    num_hidden_layers: Count | None = None
    n_layers: Count | None = None
    n_layer: Count | None = None
    num_layers: Count | None = None
    num_attention_heads: Count | None = None
    n_head: Count | None = None
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    intermediate_size: Count | None = None
    pad_token_id: int | None = None


class ConfigJson(msgspec.Struct):
    """What config.json says of the model as a whole."""

    model_type: str
    architectures: list[str] | None = None
    text_config: dict[str, Any] | None = None


class WeightIndex(msgspec.Struct):
    """model.safetensors.index.json."""

    weight_map: dict[str, str]


class OwnCode(msgspec.Struct):
    """What a file says of code that the model brings."""

    auto_map: dict[str, Any] | list[Any] | None = None


@dataclass(frozen=True)
class ModelFacts:
    """The facts that decide limits and Programs. Engines read more of ``folder`` themselves."""

    folder: Path
    config: Mapping[str, Any]
    """config.json, whole."""
    architecture: str
    model_type: str
    hidden_size: int
    num_layers: int
    vocab_size: int
    position_limit: int
    """Most tokens by its positions; 0 where nothing limits them."""
    pad_token_id: int
    weight_files: Mapping[Path, str]
    """Each with what goes before the names of its tensors: nothing, or the sentence-transformers module's own name."""
    num_parameters: int
    structure_digest: str
    """Of config.json and of the tensors' names, dtypes and shapes."""
    quantized_files: Mapping[Path, int] = field(default_factory=dict)
    """What has the numbers of a quantized file that the weights were made of, with its bytes; none where they were not.
    """
    notices: tuple[str, ...] = ()
    """What its files have that is not followed, a line each."""

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of config.json that describes the text model."""
        part: Mapping[str, Any] = self.config.get("text_config") or self.config
        return part


def read_model_facts(folder: Path) -> ModelFacts:
    """Read config.json and the headers of the weight files.

    Raises:
        ModelError: a file is missing, broken or of a kind we do not load; the message names it.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder", hint="name a model folder, hub id or package in model.path")
    config, file = read_config_json(folder), folder / "config.json"
    whole = convert(config, ConfigJson, file)
    part = config.get("text_config") or config
    text = convert(part, TextConfig, file)
    limit, pad = read_positions(part, whole.model_type, file)
    hidden_size = text.d_model if whole.model_type in D_MODEL_TYPES else text.hidden_size or text.dim or text.n_embd
    if hidden_size is None:
        raise ModelError(
            f"{file} has no hidden_size: models of the type {whole.model_type} are not supported",
            hint="use another model",
        )
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json", hint="save the fast tokenizer with transformers' save_pretrained"
        )
    weight_files = dict.fromkeys(_weight_files(folder), "") | read_module_weights(folder)
    checkpoint = read_checkpoint(weight_files)
    quantized = {file: file.stat().st_size for file in [folder / QUANTIZED_FILE] if file.is_file()}
    structure = Checkpoint({**checkpoint.tensors, **read_checkpoint(dict.fromkeys(quantized, "")).tensors})
    return ModelFacts(
        folder=folder,
        config=config,
        architecture=(whole.architectures or ["unknown"])[0],
        model_type=whole.model_type,
        hidden_size=hidden_size,
        num_layers=text.num_hidden_layers or text.n_layers or text.n_layer or text.num_layers or 0,
        vocab_size=text.vocab_size,
        position_limit=limit,
        pad_token_id=pad,
        weight_files=weight_files,
        num_parameters=checkpoint.num_parameters,
        structure_digest=structure.structure_digest(config),
        quantized_files=quantized,
        notices=(*_own_code(folder, config), *_tokens_beyond(folder / "tokenizer.json", text.vocab_size)),
    )


def _own_code(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Name code of the model's own: it is never run, so that what is computed is transformers' idea of the model."""
    files = {
        "config.json": convert(config, OwnCode, folder / "config.json"),
        "tokenizer_config.json": read_struct(folder / "tokenizer_config.json", OwnCode),
    }
    return tuple(
        f"{name} asks for code of its own (auto_map: {', '.join(sorted(map(str, own.auto_map)))}), which is not "
        "run: transformers' own model and tokenizer.json are used"
        for name, own in files.items()
        if own.auto_map
    )


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def _tokens_beyond(file: Path, vocab_size: int) -> tuple[str, ...]:
    """Name the added tokens whose ids lie past the embedding; what is broken is named where it is loaded."""
    try:
        tokenizer = msgspec.json.decode(file.read_bytes().removeprefix(BOM), type=_Tokenizer)
    except (OSError, msgspec.DecodeError):
        return ()
    beyond = [token.content for token in tokenizer.added_tokens if token.id >= vocab_size]
    if not beyond:
        return ()
    named = ", ".join(beyond[:MAX_TOKENS_NAMED]) + (", …" if beyond[MAX_TOKENS_NAMED:] else "")
    return (
        f"tokenizer.json adds {named} beyond the model's {vocab_size} embeddings: an input with such a token is "
        "refused",
    )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    single, index = folder / WEIGHTS[0], folder / WEIGHTS[1]
    if single.is_file():
        return (single,)
    if index.is_file():
        names = sorted(set(read_struct(index, WeightIndex).weight_map.values()))
        files = tuple(file_in(folder, name, index) for name in names)
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None or not files:
            raise ModelError(f"{missing or index} is missing or empty", hint="fetch the model again")
        return files
    others = [file.name for pattern in ("*.bin", "*.pt", "*.h5", "*.ckpt") for file in folder.glob(pattern)]
    found = f"; {others[0]} is pickled or foreign and is never loaded" if others else ""
    raise ModelError(f"{folder} has no model.safetensors{found}", hint="convert the weights to safetensors")
