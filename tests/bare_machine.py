"""A machine as a deployment has it: a read-only root, a user that nobody knows, no home, no compiler on PATH."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT, environment

UNSHARE, MOUNT, SHELL = (shutil.which(name) or name for name in ("unshare", "mount", "sh"))
# A uid that no user has, as Kubernetes and OpenShift give; files that root owns stay root's, or seem this user's.
AS_NOBODY = (UNSHARE, "--user", "--map-user=54321", "--map-group=54321")
PREPARE = f"""
set -e
{MOUNT} --make-rprivate /
{MOUNT} -t tmpfs none "$1"
{MOUNT} -o remount,bind,ro /
shift
exec "$@"
"""
ENTER = (UNSHARE, "--user", "--map-root-user", "--mount", SHELL, "-c", PREPARE, SHELL)
HIDDEN = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "CXX", "CC", "TORCHINDUCTOR_CACHE_DIR")


def run_there(code: str, words: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess:
    """Run Python on such a machine; temporary files may go to ``folder`` alone, which is empty before and after.

    Skips the test where this machine makes no such one.
    """
    tried = subprocess.run([*ENTER, str(folder), *AS_NOBODY, "/bin/true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no namespaces of its own are to be had here: {tried.stderr.decode().strip()}")
    kept = {name: text for name, text in environment().items() if name not in HIDDEN}
    variables = {**kept, "PATH": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*ENTER, str(folder), *AS_NOBODY, sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)
