"""Completion by a real zsh and a real fish, at a terminal: what Tab makes of a line."""

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from sendnn_pipeline.tools import completion
from tests.served import ROOT, environment

SHELLS = {
    "zsh": (["zsh", "-f", "-i"], 'eval "$(sendnn-pipeline -sc install=zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "sendnn-pipeline -sc install=fish | source"),
}
LINES = {
    "sendnn-pipeline expl": "sendnn-pipeline explain ",
    "sendnn-pipeline log.level=w": "sendnn-pipeline log.level=warning ",
    "sendnn-pipeline backend=eager warmup.budg": "sendnn-pipeline backend=eager warmup.budget=",
}
DEADLINE_SECONDS = 30
CONTROLS = re.compile(r"\x1b\[[0-9;?>=]*[a-zA-Z]|\x1b[()=>][B0]?|\x1b\][^\x07]*\x07|[\r\x07\x08]")


@contextmanager
def terminal(command, tmp_path):
    """Yield what types a text and waits until the screen has another."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = environment(PATH=path, HOME=str(tmp_path), TERM="dumb", COLUMNS="200")
    process, screen = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe(command[0], command, variables)

    def type_(text, wanted):
        os.write(screen, text.encode())
        shown, deadline = "", time.monotonic() + DEADLINE_SECONDS
        while wanted not in shown and time.monotonic() < deadline:
            if select.select([screen], [], [], 0.1)[0]:
                shown += CONTROLS.sub("", os.read(screen, 65536).decode(errors="replace"))
        assert wanted in shown, shown

    try:
        yield type_
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(screen)


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    command, install = SHELLS[shell]
    with terminal(command, tmp_path) as type_:
        type_(f"{install}; echo instal''led\n", "installed\n")
        for begun, line in LINES.items():
            type_(f"\x15{begun}\t", line)


def test_zsh_reads_a_line_for_each(monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", "sendnn-pipeline backend=s")
    monkeypatch.delenv("COMP_POINT", raising=False)
    completion.main(["-sc", "query=zsh"])
    assert capsys.readouterr().out == "backend=sendnn\nbackend=sendnn_compile_only\n"
    for word in ("install=zsh", "uninstall=zsh", "query=zsh"):
        assert completion.asks(["-sc", word])
    assert not completion.asks(["-sc", "install=bash"]) and not completion.asks(["-sc"])
