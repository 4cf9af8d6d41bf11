"""The plan, as the user sees it before anything is built."""

from rich.console import Console
from rich.table import Table

from sendnn_pipeline.app.resolve import ResolvedRun
from sendnn_pipeline.known.entry import CHOICES
from sendnn_pipeline.programs.times import CompileTimes


def print_plan(console: Console, resolved: ResolvedRun, threads: str) -> None:
    """Print model, backend, dtype, what the engine plans, its Programs with their cost, and where caches are."""
    run, draft = resolved.run, resolved.draft
    config, plan = run.config, run.plan

    def line(name: str, value: str, key: str = "") -> None:
        why = draft.where(key) if key else ""
        console.print(
            f"{name:<9}{value}" + (f"  ({why})" if why else ""), highlight=False, markup=False, soft_wrap=True
        )

    line("model", f"{run.served_name}: {run.model.architecture}, {run.model.num_parameters / 1e6:.1f} M parameters")
    line("backend", config.backend.name, "backend")
    if config.known.name not in CHOICES:
        line("known", config.known.name, "known.name")
    line("dtype", config.model.dtype, "model.dtype")
    line("threads", threads)
    line("caches", str(run.cache_dir))
    for own in plan.lines:
        line(own.name, own.value, own.key)
    recorded = CompileTimes(run.cache_dir).read()
    seconds = [recorded.get(run.timing_prefix + program.name) for program in plan.programs]
    table = Table(box=None, pad_edge=False)
    table.add_column("Program")
    table.add_column("compile", justify="right")
    for program, cost in zip(plan.programs, seconds, strict=True):
        table.add_row(program.name.replace("[", r"\["), "not measured yet" if cost is None else f"{cost:.1f} s")
    console.print(table, highlight=False)
    total = "not all measured yet" if None in seconds else f"{sum(cost or 0 for cost in seconds):.0f} s"
    memory = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in plan.memory_bytes.items())
    line("cost", f"{memory}; compile without caches {total}" if memory else f"compile without caches {total}")
