"""What a model's files say of how texts become vectors or labels: sentence-transformers' files, and config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.json_files import convert, file_in, read_json, read_object, read_struct

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


class SentenceBertFile(msgspec.Struct):
    """sentence_bert_config.json."""

    max_seq_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


class SentenceTransformersFile(msgspec.Struct):
    """config_sentence_transformers.json."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None


class Module(msgspec.Struct):
    """One of modules.json."""

    type: str
    path: str = ""


class CrossEncoderConfig(msgspec.Struct):
    """What sentence-transformers adds to config.json."""

    activation_fn: str | None = None


class ClassifierConfig(msgspec.Struct):
    """What config.json says of labels and of pairs."""

    id2label: dict[str, str | int] | None = None
    num_labels: Annotated[int, msgspec.Meta(ge=1)] | None = None
    problem_type: str | None = None
    sentence_transformers: CrossEncoderConfig | None = None
    sbert_ce_default_activation_function: str | None = None
    type_vocab_size: int | None = None


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
    classifier = convert(config, ClassifierConfig, folder / "config.json")
    labels = _labels(model.architecture, classifier)
    extra = read_struct(folder / "config_sentence_transformers.json", SentenceTransformersFile)
    max_length = read_struct(folder / "sentence_bert_config.json", SentenceBertFile).max_seq_length or limit
    return PoolingFacts(
        pooling=pooling,
        normalize=normalize,
        has_modules=has_modules,
        max_length=min(max_length, limit) if limit else max_length,
        matryoshka=bool(config.get("is_matryoshka") or config.get("matryoshka_dimensions")),
        labels=labels,
        activation=_activation(classifier, len(labels), folder / "config.json"),
        token_type_ids=(classifier.type_vocab_size or 0) > 1,
        prompts=extra.prompts or {},
        default_prompt=extra.default_prompt_name,
    )


def _labels(architecture: str, config: ClassifierConfig) -> tuple[str, ...]:
    """Return a classifier's labels; two of transformers' own names where config.json says nothing."""
    if not architecture.endswith(CLASSIFIER):
        return ()
    named = config.id2label or {}
    count = len(named) or config.num_labels or 2
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def _activation(config: ClassifierConfig, num_labels: int, file: Path) -> str:
    """Return what the model's own files say; else the sigmoid of one label, the softmax of several."""
    of_library = config.sentence_transformers or CrossEncoderConfig()
    named = of_library.activation_fn or config.sbert_ce_default_activation_function
    if named:
        name = named.rsplit(".", 1)[-1]
        if name not in ACTIVATIONS:
            raise ModelError(
                f"{file} asks for the activation {named}, which is not supported", hint="use another model"
            )
        return ACTIVATIONS[name]
    by_problem = ACTIVATION_OF_PROBLEM.get(config.problem_type or "")
    return by_problem or ("sigmoid" if num_labels == 1 else "softmax")


def _read_modules(folder: Path) -> tuple[str, bool, bool]:
    """Return pooling, normalizing and whether the files say so; mean without them, as sentence-transformers."""
    file = folder / "modules.json"
    if not file.is_file():
        return "mean", False, False
    modules = convert(read_json(file), list[Module], file)
    pooling, normalize = "mean", False
    for module in modules:
        kind = module.type.rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling_of(file_in(folder, module.path, file) / "config.json")
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
