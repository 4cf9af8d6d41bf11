"""Tools beside the run: each is a module with ``main(argv)``, reached as ``python -m sendnn_pipeline NAME``."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from sendnn_pipeline.errors import ConfigError

TOOLS = {
    "explain": "sendnn_pipeline.tools.explain",
    "doctor": "sendnn_pipeline.tools.doctor",
    "catalog": "sendnn_pipeline.tools.catalog",
    "tune": "sendnn_pipeline.tools.tune",
    "simulate": "sendnn_pipeline.tools.simulate",
    "plugins": "sendnn_pipeline.tools.plugins",
    "migrate-env": "sendnn_pipeline.tools.migrate_env",
}


def shows_usage(argv: Sequence[str], tool: str, words: str, *lines: str) -> bool:
    """Print how a tool is called, where its words ask for that; return whether they do.

    Args:
        argv: the tool's words.
        tool: its name.
        words: that it takes.
        lines: more to say of them.
    """
    asked = bool({"-h", "--help"} & set(argv))
    if asked:
        sys.stdout.write("\n".join([f"usage: python -m sendnn_pipeline {tool} {words}", *lines, ""]))
    return asked


class ToolParser(argparse.ArgumentParser):
    """Reads a tool's words; what is wrong with them is one line."""

    def __init__(self, tool: str, description: str | None) -> None:
        super().__init__(prog=f"python -m sendnn_pipeline {tool}", description=description)

    def error(self, message: str) -> NoReturn:
        """Refuse the words.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, hint=f"{self.prog} --help shows what it takes")
