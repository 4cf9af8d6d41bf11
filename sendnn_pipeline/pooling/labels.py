"""A classifier's labels, and what makes scores of its logits. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError

CLASSIFIER = "ForSequenceClassification"
# By the last part of the class that a cross-encoder's files name, and by transformers' problem types.
ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}
ACTIVATION_OF_PROBLEM = {
    "regression": "identity",
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a classifier's labels; two of transformers' own names where config.json says nothing."""
    if not str((config.get("architectures") or [""])[0]).endswith(CLASSIFIER):
        return ()
    named = config.get("id2label") or {}
    count = len(named) or int(config.get("num_labels") or 2)
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def activation_of_files(
    config: Mapping[str, Any], sentence: Mapping[str, Any], num_labels: int, folder: Path
) -> tuple[str, str]:
    """Return the activation that the model's own files name, and the file; else the usual one, and no file.

    Args:
        config: config.json.
        sentence: config_sentence_transformers.json, which counts first.
        num_labels: of the classifier; one has the sigmoid, several the softmax.
        folder: the model's.

    Raises:
        ModelError: it is one that is not supported.
    """
    in_config = (config.get("sentence_transformers") or {}).get("activation_fn")
    in_config = in_config or config.get("sbert_ce_default_activation_function")
    for named, file in (
        (sentence.get("activation_fn"), "config_sentence_transformers.json"),
        (in_config, "config.json"),
    ):
        if named:
            name = str(named).rsplit(".", 1)[-1]
            if name not in ACTIVATIONS:
                raise ModelError(
                    f"{folder / file} asks for the activation {named}, which is not supported", hint="use another model"
                )
            return ACTIVATIONS[name], file
    by_problem = ACTIVATION_OF_PROBLEM.get(str(config.get("problem_type")))
    return by_problem or ("sigmoid" if num_labels == 1 else "softmax"), ""
