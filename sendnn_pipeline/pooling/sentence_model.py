"""A sentence-transformers model as its files describe it: pooling, modules behind it, prompts. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.json_files import convert, read_object, read_struct
from sendnn_pipeline.models.sentence_files import (
    MODULES,
    ModuleEntry,
    TransformerFile,
    read_module_entries,
    read_transformer_file,
    unknown_entries,
)
from sendnn_pipeline.pooling.modules import USE_ANOTHER, Module, Truncate, read_module

SENTENCE_CONFIG = "config_sentence_transformers.json"
# By their names in the files, in the order in which the older form joins several.
MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
    "lasttoken": "last",
}
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# What computes the same whatever it says.
HARMLESS = ("unpad_inputs", "embedding_dimension", "word_embedding_dimension", "__version__", "model_type")
ENCODER_TASKS = ("feature-extraction", "sequence-classification")


class PoolingFile(msgspec.Struct, frozen=True):
    """config.json of a Pooling module, apart from the older form's flags."""

    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True


class SentenceConfig(msgspec.Struct, frozen=True):
    """config_sentence_transformers.json."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    activation_fn: str | None = None


@dataclass(frozen=True)
class SentenceModel:
    """What the files say; ``pooling`` is empty where they say nothing of it."""

    transformer: TransformerFile
    config: SentenceConfig
    pooling: str = ""
    pooling_file: str = ""
    include_prompt: bool = True
    modules: tuple[Module, ...] = ()
    notices: tuple[str, ...] = ()
    """What the files ask for that is not done."""


def read_sentence_model(folder: Path) -> SentenceModel:
    """Read the files.

    Raises:
        ModelError: one is broken, or asks for what is not supported; the message names it.
    """
    transformer, config = read_transformer_file(folder), _read_config(folder)
    notices = unknown_entries(folder / SENTENCE_CONFIG, (*SentenceConfig.__struct_fields__, *HARMLESS))
    if transformer.name:
        file = folder / transformer.name
        _check_transformer(file, transformer)
        notices += unknown_entries(file, (*TransformerFile.__struct_fields__, *HARMLESS))
    truncate = (Truncate(config.truncate_dim),) if config.truncate_dim else ()
    entries = read_module_entries(folder)
    if entries is None:
        return SentenceModel(transformer, config, modules=truncate, notices=tuple(notices))
    for entry in entries:
        if not entry.type.startswith("sentence_transformers."):
            raise ModelError(
                f"{folder / MODULES} asks for the module {entry.type}, code of its own that is not run",
                hint=USE_ANOTHER,
            )
    first, *rest = entries or (ModuleEntry(""),)
    if first.kind != "Transformer" or first.path:
        where = f"{first.kind or 'nothing'} in {first.path or 'the root'}"
        raise ModelError(
            f"{folder / MODULES} begins with {where}, and only a Transformer in the root is supported", hint=USE_ANOTHER
        )
    if not rest:
        return SentenceModel(transformer, config, notices=tuple(notices))
    pooling, *after = rest
    if pooling.kind != "Pooling":
        raise ModelError(
            f"{folder / MODULES} has a module {pooling.kind} where only a Pooling is supported", hint=USE_ANOTHER
        )
    file = folder / pooling.path / "config.json"
    modes, include_prompt = _read_pooling(file)
    notices += unknown_entries(file, (*PoolingFile.__struct_fields__, *FLAGS, *HARMLESS))
    modules = [module for entry in after if (module := read_module(folder, entry)) is not None]
    return SentenceModel(
        transformer=transformer,
        config=config,
        pooling="+".join(MODES[mode] for mode in modes),
        pooling_file=f"{pooling.path}/config.json",
        include_prompt=include_prompt,
        modules=(*modules, *truncate),
        notices=tuple(notices),
    )


def _read_config(folder: Path) -> SentenceConfig:
    file = folder / SENTENCE_CONFIG
    config = read_struct(file, SentenceConfig)
    prompts = config.prompts or {}
    if config.default_prompt_name is not None and config.default_prompt_name not in prompts:
        known = f"it has {', '.join(prompts)}" if prompts else "it has none"
        raise ModelError(
            f"{file} has default_prompt_name={config.default_prompt_name} and no such prompt; {known}",
            hint="correct the file",
        )
    return config


def _read_pooling(file: Path) -> tuple[list[str], bool]:
    content: dict[str, Any] = read_object(file, required=True)
    options = convert(content, PoolingFile, file)
    named = options.pooling_mode
    modes = [named] if isinstance(named, str) else named
    if modes is None:
        on = [name for name, value in content.items() if name.startswith("pooling_mode_") and value]
        foreign = [name for name in on if name not in FLAGS]
        modes = foreign or [mode for flag, mode in FLAGS.items() if flag in on]
    if not modes or not set(modes) <= set(MODES):
        raise ModelError(
            f"{file} asks for pooling {', '.join(modes) or 'of no kind'}, and supported are {', '.join(MODES)}",
            hint=USE_ANOTHER,
        )
    return modes, options.include_prompt


def _check_transformer(file: Path, transformer: TransformerFile) -> None:
    if transformer.transformer_task not in ENCODER_TASKS:
        raise ModelError(
            f"{file} has transformer_task={transformer.transformer_task}, which is not supported", hint=USE_ANOTHER
        )
    text = transformer.modality_config.get("text", {})
    reads = ("forward", "last_hidden_state" if transformer.transformer_task == ENCODER_TASKS[0] else "logits")
    if transformer.modality_config and (text.get("method"), text.get("method_output_name")) != reads:
        raise ModelError(f"{file} reads texts by {text or 'no text'}, and only {reads} is supported", hint=USE_ANOTHER)
