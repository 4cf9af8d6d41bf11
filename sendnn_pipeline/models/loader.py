"""Weights into memory, through transformers; safetensors only, no remote code."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sendnn_pipeline.errors import ModelError, counted
from sendnn_pipeline.models.json_files import read_config_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

# Heads that a checkpoint of the bare encoder may lack and that no pooling here reads.
UNUSED_PARTS = ("pooler.",)


def load_encoder(folder: "Path", dtype: str, part: "Part | None" = None) -> "nn.Module":
    """Load the bare model, without heads, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        part: of one of several ranks.

    Raises:
        ModelError: the architecture is unknown, a file is broken, or weights are missing.
    """
    from transformers import MODEL_MAPPING, AutoModel, AutoModelForTextEncoding

    if part is not None:
        return _load(MODEL_MAPPING, folder, dtype, UNUSED_PARTS, part=part)
    described = read_config_json(folder)
    # Of encoder and decoder together, such as T5's, the encoder alone; a checkpoint of it says so by its class.
    architecture = str((described.get("architectures") or [""])[0])
    alone = bool(described.get("is_encoder_decoder")) or architecture.endswith("EncoderModel")
    return _load(AutoModelForTextEncoding if alone else AutoModel, folder, dtype, UNUSED_PARTS)


def load_classifier(folder: "Path", dtype: str, part: "Part | None" = None) -> "nn.Module":
    """Load a sequence classifier with its head, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        part: of one of several ranks.

    Raises:
        ModelError: the architecture is unknown, a file is broken, or weights are missing.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if part is None else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    return _load(kind, folder, dtype, (), part=part)


def load_causal(folder: "Path", dtype: str, attention: str) -> "nn.Module":
    """Load a causal model with its head, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        attention: name of the implementation, which transformers knows.

    Raises:
        ModelError: the architecture is unknown, a file is broken, or weights are missing.
    """
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder, dtype, (), attention=attention)


def load_language(
    folder: "Path", dtype: str, attention: str, vision: "Sequence[str]", part: "Part | None" = None
) -> "nn.Module":
    """Load a model that reads images, with its head and without what only images need, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        attention: name of the implementation of the text model's, which transformers knows.
        vision: the parts below ``model.`` that only images need.
        part: one rank's of the text model; None is all of it.

    Raises:
        ModelError: the architecture is unknown, a file is broken, or weights are missing.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if part is None else MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    model: Any = _load(kind, folder, dtype, (), attention={"text_config": attention}, part=part)
    for name in vision:
        setattr(model.model, name, None)
    return model  # type: ignore[no-any-return]


def load_vision(folder: "Path", dtype: str, vision: "Sequence[str]") -> "nn.Module":
    """Load what only images need of a model, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        vision: the parts below ``model.`` that only images need.

    Raises:
        ModelError: the architecture is unknown, a file is broken, or weights are missing.
    """
    from transformers import AutoModelForImageTextToText

    # Of the text model only what is not in layers is read, and then dropped.
    model: Any = _load(AutoModelForImageTextToText, folder, dtype, (), layers=0)
    inner = model.model
    for name, _ in list(inner.named_children()):
        if name not in vision:
            delattr(inner, name)
    return inner  # type: ignore[no-any-return]


def load_causal_part(folder: "Path", dtype: str, attention: str, part: "Part") -> "nn.Module":
    """Load one rank's part of a causal model with its head, ready for inference.

    Args:
        folder: the model's folder.
        dtype: name of a torch dtype.
        attention: name of the implementation, which transformers knows.
        part: that the rank has.

    Raises:
        ModelError: as ``load_causal``.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return _load(MODEL_FOR_CAUSAL_LM_MAPPING, folder, dtype, (), attention=attention, part=part)


@dataclass(frozen=True)
class Part:
    """One rank's, of a text model."""

    sizes: "Mapping[str, int]"
    """By their names in config.json."""
    weights: "Mapping[str, torch.Tensor]"


# Without ``attention`` transformers takes torch's own, and the model's where that is not implemented for it.
def _load(
    kind: Any,
    folder: "Path",
    dtype: str,
    may_lack: tuple[str, ...],
    *,
    attention: "str | dict[str, str] | None" = None,
    layers: int | None = None,
    part: Part | None = None,
) -> "nn.Module":
    import torch
    from transformers import CONFIG_MAPPING
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    described = read_config_json(folder)
    try:
        # Read by ourselves, as the facts were: the library takes no byte-order mark.
        if layers is not None:
            text = {**described["text_config"], "num_hidden_layers": layers}
            text.pop("layer_types", None)
            described = {**described, "text_config": text}
        config = CONFIG_MAPPING[described["model_type"]].from_dict(described)
        source: dict[str, Any] = {"pretrained_model_name_or_path": str(folder)}
        if part is not None:
            for name, size in part.sizes.items():
                setattr(config.get_text_config(), name, size)
            kind = kind[type(config)]
            source = {"pretrained_model_name_or_path": None, "state_dict": dict(part.weights)}
        model, report = kind.from_pretrained(
            **source,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # They are named below; the library's own error points to a report of its log.
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        if isinstance(error, KeyError) and error.args == (attention,):
            kind = described["model_type"]
            raise ModelError(f"{folder}: transformers hands out no attention of {kind}: it has its own") from error
        raise ModelError(
            f"{folder} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            hint="is its architecture known to the installed transformers?",
        ) from error
    _check_complete(folder, report, may_lack)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model  # type: ignore[no-any-return]


def _check_complete(folder: "Path", report: dict[str, Any], may_lack: tuple[str, ...]) -> None:
    missing = sorted(key for key in report.get("missing_keys", ()) if not key.startswith(may_lack))
    if missing:
        raise ModelError(
            f"the checkpoint in {folder} lacks {counted(len(missing), 'tensor')}, {missing[0]} first",
            hint="it would be filled with random numbers; fetch it again",
        )
    wrong = sorted(report.get("mismatched_keys", ()))
    if wrong:
        name, there, asked = wrong[0]
        raise ModelError(
            f"the checkpoint in {folder} has {name} as {_shape(there)}, and config.json makes it {_shape(asked)}",
            hint="the two are not of one model: fetch it again",
        )


def _shape(sizes: "Sequence[int]") -> str:
    return "x".join(map(str, sizes)) or "a number"
