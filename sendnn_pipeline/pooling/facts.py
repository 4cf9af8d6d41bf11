"""What a model's files say of how texts become vectors or labels: sentence-transformers' files, and config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.json_files import read_json, read_object

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


@dataclass(frozen=True)
class PoolingFacts:
    """What decides pooling, lengths and labels where the user does not."""

    pooling: str
    normalize: bool
    has_modules: bool
    """Whether the model has sentence-transformers' modules.json."""
    max_length: int
    """The longest input that its files allow."""
    matryoshka: bool
    labels: tuple[str, ...] = ()
    """A classifier's, in the order of its logits; one for a cross-encoder; none for other models."""
    activation: str = "identity"
    """What makes scores of logits: `identity`, `sigmoid` or `softmax`."""
    token_type_ids: bool = False
    """Whether the model tells the two texts of a pair apart by token types."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Texts to put before others, by name."""
    default_prompt: str | None = None
    """Name of the prompt that is meant where none is named."""


def read_pooling_facts(model: ModelFacts) -> PoolingFacts:
    """Read the files.

    Raises:
        ModelError: one is broken, or asks for what is not supported; the message names it.
    """
    config, folder, limit = model.config, model.folder, model.position_limit
    pooling, normalize, has_modules = _read_modules(folder)
    labels = _labels(config)
    extra = read_object(folder / "config_sentence_transformers.json")
    max_length = read_object(folder / "sentence_bert_config.json").get("max_seq_length") or limit
    return PoolingFacts(
        pooling=pooling,
        normalize=normalize,
        has_modules=has_modules,
        max_length=min(int(max_length), limit) if limit else int(max_length),
        matryoshka=bool(config.get("is_matryoshka") or config.get("matryoshka_dimensions")),
        labels=labels,
        activation=_activation(config, len(labels), folder / "config.json"),
        token_type_ids=int(model.text_config.get("type_vocab_size") or 0) > 1,
        prompts={str(name): str(prompt) for name, prompt in (extra.get("prompts") or {}).items()},
        default_prompt=extra.get("default_prompt_name"),
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a classifier's labels; two of transformers' own names where config.json says nothing."""
    if not str((config.get("architectures") or [""])[0]).endswith(CLASSIFIER):
        return ()
    named = config.get("id2label") or {}
    count = len(named) or int(config.get("num_labels") or 2)
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def _activation(config: Mapping[str, Any], num_labels: int, file: Path) -> str:
    """Return what the model's own files say; else the sigmoid of one label, the softmax of several."""
    named = (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function")
    if named:
        name = str(named).rsplit(".", 1)[-1]
        if name not in ACTIVATIONS:
            raise ModelError(
                f"{file} asks for the activation {named}, which is not supported", hint="use another model"
            )
        return ACTIVATIONS[name]
    by_problem = ACTIVATION_OF_PROBLEM.get(str(config.get("problem_type")))
    return by_problem or ("sigmoid" if num_labels == 1 else "softmax")


def _read_modules(folder: Path) -> tuple[str, bool, bool]:
    """Return pooling, normalizing and whether the files say so; mean without them, as sentence-transformers."""
    file = folder / "modules.json"
    if not file.is_file():
        return "mean", False, False
    modules = read_json(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{file} is not a list of modules", hint="fetch the model again")
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
    config = read_object(file, required=True)
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
