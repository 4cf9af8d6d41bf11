"""Where a model comes from: a folder or a hub; packages have a file of their own. No torch."""

import re
from pathlib import Path
from typing import Any, Protocol

from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.paths import expand_path

# What a hub may take to answer; what it sends after that may take as long as it likes.
HUB_SECONDS = 15.0
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
# Without which none runs.
FILES_OF_MODEL = ("config.json", "tokenizer.json", "*.safetensors")


class ModelSource(Protocol):
    """Turns ``model.path`` into a folder on this machine."""

    def claims(self, path: str) -> bool:
        """Return whether ``path`` is written the way this source names models."""

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the model's folder if it is here already; never fetches.

        Raises:
            ModelError: it is not here, and cannot be fetched from anywhere.
        """

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Return the model's folder, fetched if need be.

        Raises:
            ModelError: it cannot be had, or is not what was asked for.
        """


class FolderSource:
    """A folder."""

    def claims(self, path: str) -> bool:
        """Claim what exists, and what is written as a path."""
        return path.startswith(("/", ".", "~")) or expand_path(path, "model.path").is_dir()

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the folder, which is there or nowhere."""
        return self.fetch(model, cache_dir)

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Return the folder."""
        folder = expand_path(model.path, "model.path")
        if not folder.is_dir():
            raise ModelError(f"model.path={model.path} is not a folder", hint="name a folder that holds a config.json")
        return folder


class HubSource:
    """A model hub, through huggingface_hub and its cache."""

    notices: tuple[str, ...] = ()
    """What the user has to know of what was fetched."""

    def claims(self, path: str) -> bool:
        """Claim ``org/name`` and bare names that are not a folder."""
        return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is not None and not FolderSource().claims(path)

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the snapshot in the hub's own cache, if all that is wanted of it is there."""
        try:
            folder = self._snapshot(model, local_files_only=True)
        except Exception:  # any way of not being in the cache
            return None
        return folder if _is_listed(folder) else None

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Download the configuration, tokenizer and safetensors files that are not there yet."""
        silence = self._silence(model)
        try:
            # The library itself waits without end for an answer.
            folder = self._snapshot(model, local_files_only=bool(silence))
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"model.path={model.path} cannot be fetched from the hub: {silence or reason}",
                hint="check the name and the network, or name a folder",
            ) from error
        if not _is_listed(folder):
            self._take_unlisted(model, folder)
        return folder

    def _take_unlisted(self, model: ModelConfig, folder: Path) -> None:
        """Note that nobody knows whether the cache has all files of a model, unless it surely has not."""
        here = [name for name in FILES_OF_MODEL if any(folder.glob(name))]
        lacking = [name for name in FILES_OF_MODEL if name not in here]
        if lacking:
            raise ModelError(
                f"the hub cannot be reached, and its cache holds a part of {model.path}, without {', '.join(lacking)}",
                hint=f"start once where the hub can be reached, or fetch it whole: hf download {model.path}",
            )
        modules = "" if (folder / "modules.json").is_file() else "; it has no modules.json"
        self.notices = (
            f"the hub cannot be reached, and whether its cache in {folder} has all files of {model.path} is not known"
            f"{modules}",
        )

    def _silence(self, model: ModelConfig) -> str:
        """Return that the hub answers nothing within a time; empty where it answers, or is known not to be there."""
        from huggingface_hub import HfApi

        api = HfApi()
        try:
            api.model_info(model.path, revision=model.revision, timeout=HUB_SECONDS)
        except Exception as error:  # the fetch below meets any other again, and reports it
            if "timeout" in type(error).__name__.lower():
                return f"{api.endpoint} does not answer within {HUB_SECONDS:g} s"
        return ""

    def _snapshot(self, model: ModelConfig, *, local_files_only: bool) -> Path:
        from huggingface_hub import snapshot_download

        options: dict[str, Any] = {"allow_patterns": [*WANTED, "*/*.json"], "revision": model.revision}
        return Path(snapshot_download(model.path, local_files_only=local_files_only, **options))


def _is_listed(snapshot: Path) -> bool:
    """Return whether the library has the list of the revision's files, by which it refuses a part of them.

    Other programs leave single files there, which say nothing of the others.
    """
    return (snapshot.parent.parent / "trees" / f"{snapshot.name}.json").is_file()
