"""An interpreter with this one's packages and some of ``plugins/``, installed as users install them."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Literal

from tests.served import ROOT, environment

How = Literal["editable", "wheel"]


def python_with(folder: Path, *plugins: str, how: How = "wheel") -> Path:
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
    options = ["--no-deps", "--no-build-isolation", *(["--editable"] if how == "editable" else [])]
    for name in plugins:
        pip("--python", str(python), "install", *options, str(ROOT / "plugins" / name))
    return python


def start(python: Path, *words: str, code: str = "", **variables: str) -> subprocess.Popen[str]:
    """Start ``sendnn_pipeline``, or ``code``, with an interpreter, from a folder that is not the checkout.

    Args:
        python: the interpreter.
        words: the command line.
        code: runs instead.
        variables: set in its environment; PYTHONPATH goes before what is there.
    """
    paths = (variables.get("PYTHONPATH"), os.environ.get("PYTHONPATH"))
    path = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [str(python), *(["-c", code] if code else ["-m", "sendnn_pipeline"]), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=environment(**variables | path),
    )


def run(
    python: Path, *words: str, code: str = "", timeout: float = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``sendnn_pipeline``, or ``code``, to its end."""
    with start(python, *words, code=code, **variables) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def pip(*words: str) -> None:
    """Run pip, quietly."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
