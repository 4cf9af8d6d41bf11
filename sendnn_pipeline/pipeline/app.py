"""The Hydra application: one run, or a sweep of runs."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import hydra
from rich.console import Console

from sendnn_pipeline.config.command_line import CommandLine, Word, parse_command_line, parse_words
from sendnn_pipeline.config.compose import VERSION_BASE, help_word, search_path_word
from sendnn_pipeline.config.environment import process_environment
from sendnn_pipeline.config.layers import Layered
from sendnn_pipeline.config.options import PRIMARY
from sendnn_pipeline.errors import ConfigError, EngineError, PipelineError
from sendnn_pipeline.hooks.host import Host, open_host
from sendnn_pipeline.pipeline.run import run_layered
from sendnn_pipeline.pipeline.sweep import conclude, make_task, refuse_parallel, sweep_folder


def run_app(argv: Sequence[str], started: float) -> None:
    """Run the command line: check it by composing it ourselves, then hand it to Hydra.

    Raises:
        PipelineError: it does not compose, or a run failed.
    """
    command = parse_command_line(argv)
    host = open_host(process_environment(), command.config_dir)
    console = Console(stderr=False)
    for warning in host.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    layered, inserted, removed = _check(host, command)
    task: Callable[[Any], Any]
    swept: list[str] = []
    folder = None
    if command.multirun and not command.shows_only:
        folder, swept = sweep_folder(command.words)
        flags = ["--config-dir", command.config_dir] if command.config_dir else []
        task = make_task(flags, partial(_without, inserted), folder)
    else:
        task = _task(host, layered, console, started)
    ours = [*search_path_word(host.tree, host.ours), *(help_word(host.tree, host.ours) if command.helps else [])]
    sys.argv = [sys.argv[0], *command.argv([*ours, *swept, *inserted], removed)]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(host.ours), config_name=PRIMARY)(task)()
    except BaseException:
        if folder is not None:
            # How it ended comes first: Ctrl-C stays Ctrl-C, whatever the jobs before it did.
            with suppress(EngineError):
                conclude(folder)
        raise
    if folder is not None:
        conclude(folder)


def _without(inserted: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Leave out what was inserted for the environment: the job's own process finds it there."""
    theirs = {(word.key, str(word.value)) for word in parse_words(inserted)}
    return [word.text for word in parse_words(texts) if (word.key, str(word.value)) not in theirs]


def _task(host: Host, layered: Layered, console: Console, started: float) -> Callable[[Any], None]:
    """Return the run that Hydra calls; it was composed when it was checked."""

    def task(_: Any) -> None:
        try:
            run_layered(host, layered, console, started)
        except PipelineError as error:
            sys.stdout.flush()
            sys.stderr.write(f"error: {error}\n")
            sys.exit(error.exit_code)

    return task


def _check(host: Host, command: CommandLine) -> tuple[Layered, list[str], tuple[str, ...]]:
    """Compose every job once; return the last, the words to insert for the environment, and those to remove.

    Raises:
        ConfigError: a job does not compose, a sweep lacks ``-m``, or one would never end.
    """
    ours = [word for word in command.words if not word.key.startswith("hydra")]
    sweeping = next((word for word in ours if word.sweeps), None)
    if sweeping is not None and not command.multirun:
        key = sweeping.key
        raise ConfigError(
            f"{sweeping.text} has several values for {key}", hint=f"add -m to sweep, or write '{key}=[...]' for a list"
        )
    layered = None
    for words in _jobs(ours):
        layered = host.layer(words)
        run = layered.composed.run
        if command.multirun and not command.shows_only and "serve" in run.pipeline.stages:
            _refuse_endless(host, run.serve.target)
            refuse_parallel(command.words, run.serve.target, bool(getattr(run.serve, "parallel_jobs", False)))
    assert layered is not None
    swept = {word.key for word in ours if word.sweeps}
    inserted = [text for text in layered.inserted if text.partition("=")[0] not in swept]
    return layered, inserted, layered.removed


def _refuse_endless(host: Host, target: str) -> None:
    targets = host.plugins.registry("register_serve_targets", "serve target")
    if not targets.create(target, missing=host.plugins.missing()).ends:
        raise ConfigError(
            f"serve.target={target} never ends, so it cannot be swept",
            hint="sweep with serve=bench, or with pipeline=precompile",
        )


def _jobs(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Yield jobs that try every listed value of every sweep, the other sweeps at their first value.

    A sweep whose values only its sweeper knows, such as an interval, is left out.
    """
    choices = [[word] if not word.sweeps else list(parse_words(word.expanded)) for word in words]
    choices = [options for options in choices if options]
    yield [options[0] for options in choices]
    for place, options in enumerate(choices):
        for option in options[1:]:
            yield [option if other == place else first[0] for other, first in enumerate(choices)]
