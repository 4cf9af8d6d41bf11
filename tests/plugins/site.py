"""A Python environment with this one's packages and some of ``plugins/``, installed as users install them."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Literal

from tests.served import ROOT, environment

type_how = Literal["editable", "wheel"]


def python_with(folder: Path, *plugins: str, how: type_how = "wheel") -> Path:
    """Make an environment in ``folder`` and return its interpreter.

    Args:
        folder: does not exist yet.
        plugins: names of folders in ``plugins/``.
        how: as an editable checkout, or as a wheel that is built first.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    for name in plugins:
        options = ["--editable"] if how == "editable" else []
        pip(
            "--python",
            str(python),
            "install",
            "--no-deps",
            "--no-build-isolation",
            *options,
            str(ROOT / "plugins" / name),
        )
    return python


def run(python: Path, *words: str, timeout: float = 240, **variables: str) -> subprocess.CompletedProcess:
    """Run ``sendnn_pipeline`` with an interpreter, from a folder that is not the checkout."""
    command = [str(python), "-m", "sendnn_pipeline", *words]
    env = environment(**variables)
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=env, timeout=timeout, check=False)


def pip(*words: str) -> None:
    """Run pip, quietly."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
