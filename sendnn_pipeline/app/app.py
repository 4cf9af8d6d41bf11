"""The application: one run, or a sweep of runs, or what Hydra shows of them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import hydra

from sendnn_pipeline.app.context import AppContext, load_command_line
from sendnn_pipeline.app.help import help_override
from sendnn_pipeline.app.launch import Launch
from sendnn_pipeline.app.outside import asks_for_json, log_warnings
from sendnn_pipeline.app.run import run_composed
from sendnn_pipeline.app.sweep import conclude, count_jobs, make_task, refuse_parallel, sweep_folder
from sendnn_pipeline.app.target import create_target
from sendnn_pipeline.config.aliases import settle_renamed
from sendnn_pipeline.config.command_line import CommandLine, Override, parse_overrides
from sendnn_pipeline.config.compose import VERSION_BASE, search_path_override
from sendnn_pipeline.config.exact_words import several_values
from sendnn_pipeline.config.layers import LayeredConfig
from sendnn_pipeline.config.options import PRIMARY
from sendnn_pipeline.errors import ConfigError, EngineError
from sendnn_pipeline.observe.console import open_console, open_consoles

# The script that is installed with the package.
COMMAND = "sendnn-pipeline"


def run_app(argv: Sequence[str], launch: Launch) -> None:
    """Run the command line: a single run by ourselves; sweeps, and what is only shown, by Hydra.

    Args:
        argv: without the program's name.
        launch: of this process.

    Raises:
        PipelineError: it does not compose, or a run failed.
    """
    context, command = load_command_line(argv)
    if command.flags.of_hydra:
        # By what is installed: as a module, Python itself would be completed.
        sys.argv[0] = COMMAND
        _call_hydra(context, [*command.flags.for_hydra, *command.flags.words], lambda _: None)
        return
    notes = progress = open_console()
    try:
        layered, inserted = _check(context, command)
        notes, progress = open_consoles(layered.draft.group("console"))
    finally:
        if asks_for_json(argv, context.environ):
            log_warnings(context.warnings)
        else:
            for warning in context.warnings:
                notes.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    if command.flags.shows_only:
        _run_hydra(context, command, inserted, layered.removed, lambda _: None)
    elif command.flags.multirun:
        _run_sweep(context, command, inserted, layered)
    else:
        run_composed(context, layered, notes, progress, launch)


def _run_sweep(context: AppContext, command: CommandLine, inserted: Sequence[str], layered: LayeredConfig) -> None:
    settle_renamed(layered.draft)
    limit_seconds = layered.draft.group("sweep").job_timeout_seconds
    folder, words = sweep_folder(command.overrides)
    flags = ["--config-dir", command.flags.config_dir] if command.flags.config_dir else []
    task = make_task(flags, partial(_without, inserted), folder, limit_seconds, count_jobs(command.overrides))
    try:
        _run_hydra(context, command, [*words, *inserted], layered.removed, task)
    except BaseException:
        # How it ended comes first: Ctrl-C stays Ctrl-C, whatever the jobs before it did.
        with suppress(EngineError):
            conclude(folder)
        raise
    conclude(folder)


def _run_hydra(
    context: AppContext,
    command: CommandLine,
    inserted: Sequence[str],
    removed: Sequence[str],
    task: Callable[[Any], Any],
) -> None:
    """Hand a command line to Hydra, with what is inserted."""
    own = [*search_path_override(context.tree), *(help_override(context) if command.flags.shows_help else [])]
    _call_hydra(context, command.argv([*own, *inserted], removed), task)


def _call_hydra(context: AppContext, argv: Sequence[str], task: Callable[[Any], Any]) -> None:
    """Have Hydra read its words from where Python keeps them."""
    sys.argv = [sys.argv[0], *argv]
    hydra.main(version_base=VERSION_BASE, config_path=str(context.tree.own), config_name=PRIMARY)(task)()


def _without(inserted: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Leave out what was inserted for the environment: the job's own process finds it there."""
    ours = {(override.key, str(override.value)) for override in parse_overrides(inserted)}
    return [override.text for override in parse_overrides(texts) if (override.key, str(override.value)) not in ours]


def _check(context: AppContext, command: CommandLine) -> tuple[LayeredConfig, list[str]]:
    """Compose every job once; return the last, and the overrides to insert for the environment.

    Raises:
        ConfigError: a job does not compose, a sweep lacks ``-m``, or one would never end.
    """
    overrides = [override for override in command.overrides if not override.of_hydra]
    sweeping = next((override for override in overrides if override.sweeps), None)
    if sweeping is not None and not command.flags.multirun:
        raise several_values(sweeping, context.schemas.keys(), "add -m to sweep, or ")
    composed = [context.compose(job) for job in _jobs(overrides)]
    for layered in composed:
        draft = layered.draft
        if command.flags.multirun and not command.flags.shows_only and "serve" in draft["pipeline.stages"]:
            target = draft["serve.target"]
            _refuse_endless(context, target)
            parallel = "serve.parallel_jobs" in draft and bool(draft["serve.parallel_jobs"])
            refuse_parallel(command.overrides, target, parallel)
    swept = {override.key for override in overrides if override.sweeps}
    # Of a sweep what all jobs have: each reads the environment itself, and a variable may be for another's option.
    shared = [text for text in composed[-1].inserted if all(text in layered.inserted for layered in composed)]
    return composed[-1], [text for text in shared if text.partition("=")[0] not in swept]


def _refuse_endless(context: AppContext, target: str) -> None:
    if not create_target(context.plugins, target).ends:
        raise ConfigError(
            f"serve.target={target} never ends, so it cannot be swept",
            hint="sweep with serve=bench, or with pipeline=precompile",
        )


def _jobs(overrides: Sequence[Override]) -> Iterator[list[Override]]:
    """Yield jobs that try every listed value of every sweep, the other sweeps at their first value.

    A sweep whose values only its sweeper knows, such as an interval, is left out.
    """
    choices = [[one] if not one.sweeps else list(parse_overrides(one.expanded)) for one in overrides]
    choices = [options for options in choices if options]
    yield [options[0] for options in choices]
    for index, options in enumerate(choices):
        for option in options[1:]:
            yield [option if other == index else first[0] for other, first in enumerate(choices)]
