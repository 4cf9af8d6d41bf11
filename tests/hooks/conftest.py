"""A folder of plugins on the path of this process and of those that the tests start."""

import os
import sys
from pathlib import Path

import pytest

from tests.served import ECHO_FOLDER


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return the folder; its modules are forgotten afterwards, as other tests have some of the same name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def with_echo(site, monkeypatch):
    """Return the variables of a process that has the echo engine beside the folder's plugins."""
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    return {"PYTHONPATH": os.pathsep.join([str(site), str(ECHO_FOLDER)])}
