"""``doctor``: is this machine ready, and if not, what to do."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sendnn_pipeline.app.composed import cache_dir_of, compose_run
from sendnn_pipeline.app.context import AppContext, load_command_line
from sendnn_pipeline.app.nodes import check_nodes
from sendnn_pipeline.app.plugin_problems import find_plugin_problems
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.app.start_check import check_start
from sendnn_pipeline.backends.compiler import (
    CACHE_VARIABLE,
    check_cache,
    check_compiler,
    check_writable,
    compiler_words,
)
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.backends.sendnn.backend import COMPILE_ONLY
from sendnn_pipeline.backends.sendnn.machine import spyre_findings
from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.errors import PipelineError, counted
from sendnn_pipeline.machine.cpu import THREAD_VARIABLES, computes_bfloat16, count_cpus, read_cpu_facts
from sendnn_pipeline.machine.threads import plan_threads
from sendnn_pipeline.tools import shows_usage

PACKAGES = ("torch", "transformers", "tokenizers", "hydra-core", "omegaconf", "pluggy", "pyzmq", "starlette", "uvicorn")
SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_BYTES = 64 * 2**20
MIN_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok``, ``note`` or ``fail``."""

    state: str
    what: str


def main(argv: Sequence[str]) -> None:
    """Print the findings; ends with exit code 1 when one of them would stop a run."""
    if shows_usage(argv, "doctor", "[key=value ...]"):
        return
    context, command = load_command_line(argv)
    findings = [*_versions(), *_machine(context), *_configured(context, command.overrides), *_plugins(context)]
    if not any(finding.state == "fail" for finding in findings):
        findings += _refusals(context, command.overrides)
    for finding in findings:
        sys.stdout.write(f"{finding.state:<5}{finding.what}\n")
    if any(finding.state == "fail" for finding in findings):
        sys.exit(1)


def _versions() -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version.split()[0]}")
    for package in PACKAGES:
        try:
            yield Finding("ok", f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Finding("fail", f"{package} is not installed; pip install sendnn_pipeline again")


def _machine(context: AppContext) -> Iterator[Finding]:
    facts = read_cpu_facts()
    cpus, reason = count_cpus(0, facts)
    yield Finding(
        "ok",
        f"{cpus:g} CPUs by {reason}; affinity {facts.affinity}, cgroup {facts.cgroup_quota or 'no quota'}, "
        f"physical {facts.physical}, logical {facts.logical}"
        if cpus
        else reason,
    )
    for name in THREAD_VARIABLES:
        text = context.environ.get(name, "")
        if cpus and text.isdigit() and int(text) > cpus:
            yield Finding("note", f"{name}={text} is more than {cpus:g} CPUs")
    yield Finding("ok", f"bfloat16 {'is' if computes_bfloat16() else 'is not'} computed by this CPU")
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        state = "ok" if free >= MIN_SHARED_BYTES else "note"
        yield Finding(state, f"{SHARED_MEMORY} has {free // 2**20} MiB free")
    else:
        yield Finding("note", f"{SHARED_MEMORY} is missing")


def _configured(context: AppContext, overrides: Sequence[Override]) -> Iterator[Finding]:
    try:
        draft = context.compose(overrides).draft
        config = draft.config()
    except PipelineError as error:
        yield Finding("fail", str(error))
        return
    cache_dir = cache_dir_of(config.cache_dir, context.environ)
    try:
        check_writable(cache_dir)
        free = shutil.disk_usage(cache_dir).free
        yield Finding("ok" if free >= MIN_CACHE_BYTES else "note", f"{cache_dir} is writable, {free // 2**30} GiB free")
    except PipelineError as error:
        yield Finding("fail", str(error))
    try:
        check_nodes(draft, context.environ)
        threads = plan_threads(config.process, context.environ, len(config.parallel.local_ranks))
        yield Finding("ok", f"the engine gets {counted(threads.count, 'thread')} ({threads.reason})")
        yield from (Finding("note", warning) for warning in threads.warnings)
    except PipelineError as error:
        yield Finding("fail", str(error))
    compiles = config.backend.name == "inductor"
    try:
        check_compiler(context.environ)
        if compiles:
            check_cache(Path(context.environ.get(CACHE_VARIABLE) or cache_dir / "inductor"))
        yield Finding("ok", f"C++ compiler {' '.join(compiler_words(context.environ))}")
    except PipelineError as error:
        yield Finding("fail" if compiles else "note", str(error))
    yield Finding("ok", f"backend {config.backend.name} ({draft.where('backend')})")
    if isinstance(config.backend, SendnnConfig):
        compiles_only, ranks = config.backend.name == COMPILE_ONLY, len(config.parallel.local_ranks)
        for state, what in spyre_findings(context.environ, compiles_only=compiles_only, ranks=ranks):
            yield Finding(state, what)


def _refusals(context: AppContext, overrides: Sequence[Override]) -> Iterator[Finding]:
    """Try what a run tries before it loads anything; say what needs the model where that is not here yet."""
    try:
        composed = compose_run(context, overrides)
        folder = composed.locate()
        if folder is None:
            path = composed.draft["model.path"]
            yield Finding("note", f"{path} is not fetched yet: not checked are the model, shapes, dtype and port")
            return
        resolved = resolve_run(context, composed, folder)
        unchecked = check_start(context, resolved)
    except PipelineError as error:
        yield Finding("fail", f"the run would be refused: {error}")
        return
    if unchecked:
        yield Finding("note", f"not checked is {unchecked}")
    yield Finding("ok", f"the run of {resolved.run.served_name} can start")


def _plugins(context: AppContext) -> Iterator[Finding]:
    problems = find_plugin_problems(context)
    for plugin in context.plugins.loaded:
        yield Finding("ok", f"plugin {plugin.name} from {plugin.distribution}")
    for failure in context.plugins.failures:
        yield Finding("fail", f"plugin {failure.name} from {failure.distribution}: {failure.reason}")
    for problem in problems:
        yield Finding("note", problem.message)
    for warning in context.warnings:
        yield Finding("note", warning)
