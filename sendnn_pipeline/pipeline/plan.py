"""The plan, as the user sees it before anything is built."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sendnn_pipeline.config.known import CHOICES
from sendnn_pipeline.config.layers import Provenance
from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.programs.price import BYTES_OF_DTYPE, activation_bytes, price_key
from sendnn_pipeline.programs.program import PoolProgram, plan_pooling


@dataclass(frozen=True)
class Plan:
    """Programs and their price."""

    run: Run
    num_parameters: int
    weight_copies: int
    """Of the weights in memory: one, and one more in each Program that embeds them."""
    compile_seconds: Mapping[str, float]
    threads: int
    threads_reason: str

    @property
    def programs(self) -> tuple[PoolProgram, ...]:
        """What will be compiled."""
        return plan_pooling(self.run.shapes).programs

    @property
    def weight_bytes(self) -> int:
        """What all copies of the weights take in memory."""
        return self.weight_copies * self.num_parameters * BYTES_OF_DTYPE[self.run.config.model.dtype]


def print_plan(console: Console, plan: Plan, provenance: Provenance) -> None:
    """Print model, backend, dtype, Programs with their price, and where caches are."""
    run = plan.run
    config = run.config

    def line(name: str, value: str, key: str = "") -> None:
        why = provenance.where(key) if key else ""
        console.print(
            f"{name:<9}{value}" + (f"  ({why})" if why else ""), highlight=False, markup=False, soft_wrap=True
        )

    line("model", f"{run.served_name}: {run.model.architecture}, {plan.num_parameters / 1e6:.1f} M parameters")
    line("backend", config.backend.name, "backend")
    if config.known.name not in CHOICES:
        line("known", config.known.name, "known.name")
    line("dtype", config.model.dtype, "model.dtype")
    gives = f"{config.engine.pooling} pooling, normalize={config.engine.normalize}"
    if run.classifies:
        gives = f"{len(run.model.labels)} labels, {run.model.activation}"
    line("engine", f"{config.engine.name}, {config.engine.task}: {gives}")
    line("threads", f"{plan.threads}  ({plan.threads_reason})")
    line("caches", str(run.cache_dir))
    line("shapes", " ".join(map(str, run.shapes)), "warmup.shapes")
    table = Table(box=None, pad_edge=False)
    table.add_column("Program")
    table.add_column("compile", justify="right")
    table.add_column("activations", justify="right")
    for program in plan.programs:
        seconds = plan.compile_seconds.get(price_key(run, program))
        table.add_row(
            program.name.replace("[", r"\["),
            "not measured yet" if seconds is None else f"{seconds:.1f} s",
            f"{activation_bytes(run, program) / 2**20:.0f} MiB",
        )
    console.print(table, highlight=False)
    known = [plan.compile_seconds.get(price_key(run, program)) for program in plan.programs]
    total = f"{sum(second for second in known if second):.0f} s" if all(known) else "not all measured yet"
    copies = f" in {plan.weight_copies} copies" if plan.weight_copies > 1 else ""
    line("price", f"weights {plan.weight_bytes / 2**20:.0f} MiB{copies}, compile without caches {total}")
