"""A run once more, in a process that somebody else started: a replica of what a target offers."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.engine_environment import engine_environment
from sendnn_pipeline.app.engine_start import start_of
from sendnn_pipeline.app.resolve import ResolvedRun, resolve_run
from sendnn_pipeline.app.run import make_session, observe_run
from sendnn_pipeline.config.alike import first_difference, flat_keys
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.description import RunDescription
from sendnn_pipeline.config.exact_words import exact_words
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.config.secrets import read_api_keys
from sendnn_pipeline.config.serving import LogFormat
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.frontend.target import Session
from sendnn_pipeline.machine.environ import extend_environment, process_environment
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.observe.console import open_consoles
from sendnn_pipeline.observe.logs import LogStream, logging_to_stderr

# What the memory and the CPUs of a machine decide may differ among replicas: no answer depends on it.
OF_MACHINE = ("cache", "process")
log = logging.getLogger(__name__)


@contextmanager
def replica_session(description: RunDescription, config: RunConfig) -> Iterator[Session]:
    """Compose and resolve what is described, in this process, and yield its session; nothing is started yet.

    The variables of the description become this process's own.

    Args:
        description: of the run.
        config: what another process made of it, which this one has to make, too.

    Raises:
        ConfigError: this machine makes something else of it; the message names the key.
        PipelineError: the run cannot start here.
    """
    started = time.monotonic()
    extend_environment(description.environ)
    context = load_context(process_environment(), description.config_dir)
    overrides = exact_words(parse_overrides(description.words), context.schemas.keys())
    composed = compose_run(context, overrides)
    with logging_to_stderr(composed.draft.group("log")):
        resolved = resolve_run(context, composed, composed.fetch())
        check_same(config, resolved)
        run, draft = resolved.run, resolved.draft
        in_json = run.config.log.format == LogFormat.json
        notes, progress = open_consoles(draft.group("console"), LogStream(log) if in_json else None)
        say = partial(notes.print, highlight=False, markup=False, soft_wrap=True)
        threads = plan_threads(run.config.process, context.environ, len(run.config.parallel.local_ranks))
        environment = {**threads.environment, **engine_environment(resolved, context.environ)}
        with observe_run(context.plugins, resolved, progress, say) as observers:
            yield make_session(
                resolved,
                # Who started this process starts it again.
                start=start_of(run, None, environment, context.environ),
                endpoints=collect_endpoints(context.plugins, run.config.engine.name),
                observers=observers,
                say=say,
                api_keys=read_api_keys(
                    context.environ, run.config.serve.api_key_file, draft.where("serve.api_key_file")
                ),
                started=started,
                about={"plugins": [plugin.name for plugin in context.plugins.loaded], "plan": []},
            )


def check_same(config: RunConfig, resolved: ResolvedRun) -> None:
    """Refuse a run that would answer otherwise than the one that was described.

    Raises:
        ConfigError: a key outside ``OF_MACHINE`` has another value.
    """
    groups = [item.name for item in fields(config) if item.name not in OF_MACHINE]
    found = first_difference(flat_keys(config, groups), flat_keys(resolved.run.config, groups))
    if found is not None:
        key, there, here = found
        raise ConfigError(
            f"{key} is {here} in this replica and {there} where the run was described",
            where=resolved.draft.where(key),
            hint=f"set {key}, so that no machine chooses for itself",
        )
