"""``plugins``: what is loaded, from where, with which hooks, and what failed."""

import sys
from collections.abc import Sequence

from rich.table import Column, Table

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.plugin_problems import find_plugin_problems
from sendnn_pipeline.config.environment import PLUGINS_ALLOW, PLUGINS_DENY
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.observe.console import open_console
from sendnn_pipeline.tools import shows_usage


def main(argv: Sequence[str]) -> None:
    """Print the list; ends with exit code 1 when a plugin failed, or has a problem. ``-v`` adds tracebacks."""
    if shows_usage(argv, "plugins", "[-v]"):
        return
    unknown = [word for word in argv if word != "-v"]
    if unknown:
        raise ConfigError(f"plugins takes no {unknown[0]}", hint="-v shows tracebacks")
    context = load_context(process_environment())
    plugins, problems = context.plugins, find_plugin_problems(context)
    console = open_console()
    table = Table(
        "plugin", "state", Column("from", overflow="fold"), Column("hooks", overflow="fold"), box=None, pad_edge=False
    )
    for plugin in plugins.loaded:
        table.add_row(plugin.name, "loaded", f"{plugin.distribution} ({plugin.module})", ", ".join(plugin.hooks))
    for name in plugins.disabled:
        table.add_row(name, "disabled", f"by {PLUGINS_ALLOW} or {PLUGINS_DENY}", "")
    for failure in plugins.failures:
        table.add_row(failure.name, "failed", failure.distribution, failure.reason)
    for problem in problems:
        table.add_row(problem.plugin, "problem", "", problem.message)
    console.print(table, highlight=False, markup=False)
    if plugins.failures and "-v" in argv:
        for failure in plugins.failures:
            sys.stdout.write(f"\n{failure.name}:\n{failure.trace}")
    if plugins.failures or problems:
        sys.exit(1)
