"""A classifier's labels, and what makes scores of its logits. No torch."""

from pathlib import Path
from typing import Annotated

import msgspec

from sendnn_pipeline.errors import ModelError

CLASSIFIER = "ForSequenceClassification"
# By the last part of the class that a cross-encoder's files name, and by transformers' problem types.
ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}
ACTIVATION_OF_PROBLEM = {
    "regression": "identity",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}


class CrossEncoderConfig(msgspec.Struct):
    """What sentence-transformers adds to config.json."""

    activation_fn: str | None = None


class ClassifierConfig(msgspec.Struct):
    """What config.json says of labels and of their scores."""

    id2label: dict[str, str | int] | None = None
    num_labels: Annotated[int, msgspec.Meta(ge=1)] | None = None
    problem_type: str | None = None
    sentence_transformers: CrossEncoderConfig | None = None
    sbert_ce_default_activation_function: str | None = None


def labels_of(architecture: str, config: ClassifierConfig) -> tuple[str, ...]:
    """Return a classifier's labels; two of transformers' own names where config.json says nothing."""
    if not architecture.endswith(CLASSIFIER):
        return ()
    named = config.id2label or {}
    count = len(named) or config.num_labels or 2
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def activation_of_files(
    config: ClassifierConfig, of_sentence: str | None, num_labels: int, folder: Path
) -> tuple[str, str]:
    """Return the activation that the model's own files name, and the file; else the usual one, and no file.

    Args:
        config: config.json.
        of_sentence: what config_sentence_transformers.json names; it counts first.
        num_labels: of the classifier; one has the sigmoid, several the softmax.
        folder: the model's.

    Raises:
        ModelError: it is one that is not supported.
    """
    of_library = config.sentence_transformers or CrossEncoderConfig()
    in_config = of_library.activation_fn or config.sbert_ce_default_activation_function
    for named, file in (
        (of_sentence, "config_sentence_transformers.json"),
        (in_config, "config.json"),
    ):
        if named:
            name = named.rsplit(".", 1)[-1]
            if name not in ACTIVATIONS:
                raise ModelError(
                    f"{folder / file} asks for the activation {named}, which is not supported", hint="use another model"
                )
            return ACTIVATIONS[name], file
    by_problem = ACTIVATION_OF_PROBLEM.get(config.problem_type or "")
    return by_problem or ("sigmoid" if num_labels == 1 else "softmax"), ""
