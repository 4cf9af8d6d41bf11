"""The command line in this process: for what ends before anything is started, where a process would only cost time.

Exit codes and output of real processes are what ``sendnn`` in served.py is for; both give the same answer.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sendnn_pipeline.__main__ import main
from tests.served import ROOT, environment

type_ended = subprocess.CompletedProcess[str]


class CommandLine:
    """Calls ``main`` as the interpreter would: its arguments, environment and folder, and what it prints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: str, **variables: str) -> type_ended:
        """Run the words to their end."""
        self.capsys.readouterr()
        with self.monkeypatch.context() as patch, signals_restored():
            wanted = environment(**variables)
            for name in os.environ.keys() - wanted.keys():
                patch.delenv(name)
            for name, text in wanted.items():
                patch.setenv(name, text)
            patch.setattr(sys, "argv", ["sendnn_pipeline", *words])
            # A process begins with no handlers: one that a library left here writes to a stream that is closed.
            patch.setattr(logging.root, "handlers", [])
            patch.chdir(ROOT)
            code = _exit_code()
        printed = self.capsys.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_restored() -> Iterator[None]:
    """Give signals back to whoever handled them: what a process does with its own ends with it."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            # What the interpreter does with it.
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    return 0
