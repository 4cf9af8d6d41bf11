"""Files that sentence-transformers keeps beside a model's own, as far as every model needs them. No torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from sendnn_pipeline.models.json_files import convert, file_in, read_json, read_object, read_struct

MODULES = "modules.json"
MODULE_WEIGHTS = "model.safetensors"
# In the order in which they are looked for; the first that says anything counts.
KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TRANSFORMER_FILES = tuple(f"sentence_{kind}_config.json" for kind in KINDS)


class ModuleEntry(msgspec.Struct, frozen=True):
    """A module of modules.json."""

    type: str
    """Its class, with the package."""
    path: str = ""
    """Its folder within the model's."""

    @property
    def kind(self) -> str:
        """The class alone."""
        return self.type.rsplit(".", 1)[-1]


class TransformerFile(msgspec.Struct, frozen=True):
    """How texts reach the model: sentence_bert_config.json, or one of its older names."""

    name: str = ""
    """Of the file; empty where there is none."""
    max_seq_length: Annotated[int, msgspec.Meta(ge=1)] | None = None
    do_lower_case: bool = False
    transformer_task: str = "feature-extraction"
    module_output_name: str = "token_embeddings"
    modality_config: dict[str, dict[str, str | None]] = {}


class TokenizerFile(msgspec.Struct, frozen=True):
    """The part of tokenizer_config.json that limits lengths."""

    model_max_length: int | float | None = None


def read_module_entries(folder: Path) -> tuple[ModuleEntry, ...] | None:
    """Return the modules of modules.json in their order; None where there is no such file.

    Raises:
        ModelError: it is broken, or names a folder outside the model's.
    """
    file = folder / MODULES
    if not file.is_file():
        return None
    entries = convert(read_json(file), list[ModuleEntry], file)
    for entry in entries:
        file_in(folder, entry.path, file)
    return tuple(entries)


def read_module_weights(folder: Path) -> dict[Path, str]:
    """Return the weight files of modules that have some of their own, each with the prefix of its tensors' names."""
    entries = [entry for entry in read_module_entries(folder) or () if entry.path]
    files = {folder / entry.path / MODULE_WEIGHTS: f"{module_name(entry.path)}." for entry in entries}
    return {file: prefix for file, prefix in files.items() if file.is_file()}


def module_name(path: str) -> str:
    """Return a module's name in graphs and among the names of weights: its folder, without what parts names."""
    return path.replace("/", "_").replace(".", "_")


def read_transformer_file(folder: Path) -> TransformerFile:
    """Return the first of ``TRANSFORMER_FILES`` that says anything.

    Raises:
        ModelError: it is broken.
    """
    for name in TRANSFORMER_FILES:
        content = read_object(folder / name)
        if content:
            return convert({**content, "name": name}, TransformerFile, folder / name)
    return TransformerFile()


def read_tokenizer_limit(folder: Path) -> int | None:
    """Return the longest input by tokenizer_config.json; None where it says nothing.

    Raises:
        ModelError: it is broken.
    """
    limit = read_struct(folder / "tokenizer_config.json", TokenizerFile).model_max_length
    return None if limit is None else int(limit)


def unknown_entries(file: Path, known: Iterable[str]) -> list[str]:
    """Return a line for each entry of a file that is neither known nor empty."""
    names = set(known)
    return [
        f"{file.name} has {name}={value!r:.80}, which is not known here and not followed"
        for name, value in read_object(file).items()
        if name not in names and value not in (None, {}, [], "")
    ]
