"""The plan, as the user sees it before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sendnn_pipeline.app.resolve import ResolvedRun
from sendnn_pipeline.known.entry import CHOICES
from sendnn_pipeline.programs.times import CompileTimes


@dataclass(frozen=True)
class Line:
    """One line of the plan."""

    name: str
    value: str
    why: str = ""


def plan_lines(resolved: ResolvedRun, threads: str) -> list[Line]:
    """Return model, backend, dtype, threads, caches and what the engine plans, each with what set it."""
    run, draft = resolved.run, resolved.draft
    config, model = run.config, run.model
    lines = [
        Line("model", f"{run.served_name}: {model.architecture}, {model.num_parameters / 1e6:.1f} M parameters"),
        Line("backend", config.backend.name, draft.where("backend")),
        Line("dtype", config.model.dtype, draft.where("model.dtype")),
        Line("threads", threads),
        Line("caches", str(run.cache_dir)),
    ]
    if config.known.name not in CHOICES:
        lines.insert(2, Line("known", config.known.name, draft.where("known.name")))
    return lines + [Line(own.name, own.value, draft.where(own.key) if own.key else "") for own in run.plan.lines]


def print_plan(console: Console, resolved: ResolvedRun, lines: Sequence[Line]) -> None:
    """Print the lines, the Programs with their cost, and what all of it takes."""
    run, plan = resolved.run, resolved.run.plan

    def show(line: Line) -> None:
        why = f"  ({line.why})" if line.why else ""
        console.print(f"{line.name:<9}{line.value}{why}", highlight=False, markup=False, soft_wrap=True)

    for line in lines:
        show(line)
    recorded = CompileTimes(run.cache_dir).read()
    known = {program.name: recorded.get(run.timing_prefix + program.name) for program in plan.programs}
    keeps = resolved.backend.limits.artifacts != "none" and run.config.artifacts.enabled
    table = Table(box=None, pad_edge=False)
    table.add_column("Program")
    table.add_column("stored")
    table.add_column("compile", justify="right")
    for name, seconds in known.items():
        stored = name not in resolved.missing
        cost = "none" if stored else "not measured yet" if seconds is None else f"{seconds:.1f} s"
        table.add_row(name.replace("[", r"\["), "yes" if stored else "no" if keeps else "never", cost)
    console.print(table, highlight=False)
    todo = [known[name] for name in resolved.missing]
    total = "not all measured yet" if None in todo else f"about {sum(cost or 0 for cost in todo):.0f} s"
    memory = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in plan.memory_bytes.items())
    compiling = f"compile {total}" if todo else "nothing to compile"
    show(Line("cost", "; ".join(filter(None, (memory, compiling)))))
