"""What a model's own files say about it, read as plain JSON, before any weight is loaded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
POOLING_OF_FLAG = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
CLASSIFIER = "ForSequenceClassification"
# By the last part of the class that a cross-encoder's files name, and by transformers' problem types.
ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}
ACTIVATION_OF_PROBLEM = {
    "regression": "identity",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}
# Position 0 of these models is the padding index plus one.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")


@dataclass(frozen=True)
class ModelFacts:
    """The facts that decide limits, Programs and pooling."""

    folder: Path
    architecture: str
    model_type: str
    hidden_size: int
    num_layers: int
    vocab_size: int
    position_limit: int
    own_max_len: int
    pad_token_id: int
    pooling: str
    normalize: bool
    has_pooling_files: bool
    matryoshka: bool
    weight_files: tuple[Path, ...]
    labels: tuple[str, ...] = ()
    """A classifier's, in the order of its logits; one for a cross-encoder; none for other models."""
    activation: str = "identity"
    """What makes scores of logits: `identity`, `sigmoid` or `softmax`."""
    token_types: bool = False
    """Whether the model tells the two texts of a pair apart by token types."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Texts to put before others, by name."""
    default_prompt: str | None = None
    """Name of the prompt that is meant where none is named."""


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read the model's config.json.

    Raises:
        ModelError: it is missing or broken.
    """
    return _read_object(folder / "config.json", required=True)


def read_model_facts(folder: Path) -> ModelFacts:
    """Read config.json, the sentence-transformers files and the list of weight files.

    Raises:
        ModelError: a file is missing, broken or of a kind we do not load; the message names it.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder", hint="name a model folder, hub id or package in model.path")
    config = read_config_json(folder)
    text = config.get("text_config", config)
    try:
        vocab_size, hidden_size = int(text["vocab_size"]), int(text.get("hidden_size", text.get("dim", 0)))
        limit = int(text.get("max_position_embeddings", text.get("n_positions", 0)))
        model_type = str(config["model_type"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / 'config.json'} lacks a usable {error}", hint="is this a transformers model?"
        ) from None
    pad = text.get("pad_token_id") or 0
    if limit and model_type in OFFSET_POSITIONS:
        limit -= pad + 1
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json", hint="save the fast tokenizer with transformers' save_pretrained"
        )
    pooling, normalize, found = _read_pooling(folder)
    labels = _labels(config)
    said = _read_object(folder / "config_sentence_transformers.json")
    own_len = _read_object(folder / "sentence_bert_config.json").get("max_seq_length") or limit
    return ModelFacts(
        folder=folder,
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        model_type=model_type,
        hidden_size=hidden_size,
        num_layers=int(text.get("num_hidden_layers", text.get("n_layers", 0))),
        vocab_size=vocab_size,
        position_limit=limit,
        own_max_len=min(int(own_len), limit) if limit else int(own_len),
        pad_token_id=int(pad),
        pooling=pooling,
        normalize=normalize,
        has_pooling_files=found,
        matryoshka=bool(config.get("is_matryoshka") or config.get("matryoshka_dimensions")),
        weight_files=_weight_files(folder),
        labels=labels,
        activation=_activation(config, len(labels), folder / "config.json"),
        token_types=int(text.get("type_vocab_size") or 0) > 1,
        prompts={str(name): str(prompt) for name, prompt in (said.get("prompts") or {}).items()},
        default_prompt=said.get("default_prompt_name"),
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a classifier's labels; two of transformers' own names where config.json says nothing."""
    if not str((config.get("architectures") or [""])[0]).endswith(CLASSIFIER):
        return ()
    named = config.get("id2label") or {}
    count = len(named) or int(config.get("num_labels") or 2)
    return tuple(str(named.get(str(place), f"LABEL_{place}")) for place in range(count))


def _activation(config: Mapping[str, Any], num_labels: int, file: Path) -> str:
    """Return what the model's own files say; else the sigmoid of one label, the softmax of several."""
    said = (config.get("sentence_transformers") or {}).get("activation_fn")
    said = said or config.get("sbert_ce_default_activation_function")
    if said:
        name = str(said).rsplit(".", 1)[-1]
        if name not in ACTIVATIONS:
            raise ModelError(f"{file} asks for the activation {said}, which is not supported", hint="use another model")
        return ACTIVATIONS[name]
    by_problem = ACTIVATION_OF_PROBLEM.get(str(config.get("problem_type")))
    return by_problem or ("sigmoid" if num_labels == 1 else "softmax")


def _read_pooling(folder: Path) -> tuple[str, bool, bool]:
    """Return pooling, normalising and whether the model's files say so; mean without them, as sentence-transformers."""
    file = folder / "modules.json"
    if not file.is_file():
        return "mean", False, False
    modules = _read(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{file} is no list of modules", hint="fetch the model again")
    pooling, normalize = "mean", False
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling_of(folder / str(module.get("path", "")) / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ModelError(f"{file} has a module {kind}, which is not supported", hint="use another model")
    return pooling, normalize, True


def _pooling_of(file: Path) -> str:
    config = _read_object(file, required=True)
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else [flag for flag, on in config.items() if on is True]
    modes = [mode for mode in modes if mode.startswith("pooling_mode_") or mode in ("mean", "cls", "lasttoken")]
    names = {**POOLING_OF_FLAG, "mean": "mean", "cls": "cls", "lasttoken": "last"}
    if len(modes) != 1 or modes[0] not in names:
        raise ModelError(
            f"{file} asks for pooling {modes or 'nothing'}, and only one of mean, cls and last token is supported",
            hint="use another model",
        )
    return names[modes[0]]


def _weight_files(folder: Path) -> tuple[Path, ...]:
    single, index = folder / WEIGHTS[0], folder / WEIGHTS[1]
    if single.is_file():
        return (single,)
    if index.is_file():
        names = sorted(set(_read_object(index).get("weight_map", {}).values()))
        files = tuple(folder / str(name) for name in names)
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None or not files:
            raise ModelError(f"{missing or index} is missing or empty", hint="fetch the model again")
        return files
    others = [file.name for pattern in ("*.bin", "*.pt", "*.h5", "*.ckpt") for file in folder.glob(pattern)]
    found = f"; {others[0]} is pickled or foreign and is never loaded" if others else ""
    raise ModelError(f"{folder} has no model.safetensors{found}", hint="convert the weights to safetensors")


def _read_object(file: Path, *, required: bool = False) -> dict[str, Any]:
    if not required and not file.is_file():
        return {}
    content = _read(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object", hint="fetch the model again")
    return content


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing", hint="is this a transformers model folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not readable as JSON: {error}", hint="fetch the model again") from None
