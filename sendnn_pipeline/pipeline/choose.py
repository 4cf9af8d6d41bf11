"""What ``warmup=auto`` stands for: the backend's limits, the workload and measured costs, brought together."""

from pathlib import Path

from sendnn_pipeline.backends.base import CompileBackend
from sendnn_pipeline.config.auto_shapes import Choice, choose_fixed, choose_range
from sendnn_pipeline.config.model_facts import ModelFacts
from sendnn_pipeline.config.schema import RunConfig, WarmupConfig
from sendnn_pipeline.config.shapes import parse_shapes
from sendnn_pipeline.config.step_cost import UNMEASURED, StepCost, fit_step_cost
from sendnn_pipeline.config.workload import MIXED_TEXTS, Histogram, histogram_of, read_trace
from sendnn_pipeline.programs.price import StepBook, model_key


def choose_shapes(
    backend: CompileBackend, facts: ModelFacts, cache_dir: Path, trace_where: str, config: RunConfig
) -> Choice:
    """Choose what the backend has as its default, else a range where it takes ranges, else shapes within the budget.

    Raises:
        ConfigError: the trace cannot be used.
    """
    limits = backend.limits(config)
    if limits.default_shapes:
        return Choice(parse_shapes(list(limits.default_shapes)) or (), None, None)
    longest, step_tokens = config.model.max_model_len or 0, config.scheduler.max_num_batched_tokens or 0
    workload, cost = read_workload(config.warmup, trace_where), measured_cost(config, facts, cache_dir)
    if limits.ranges:
        return choose_range(longest, workload, cost, step_tokens)
    budget, multiple = config.warmup.budget, limits.token_multiple
    return choose_fixed(longest, workload, cost, step_tokens, budget=budget, multiple=multiple)


def read_workload(warmup: WarmupConfig, where: str = "") -> Histogram:
    """Return the lengths of the trace, else those of mixed prose.

    Raises:
        ConfigError: the trace cannot be used.
    """
    return read_trace(Path(warmup.trace), where) if warmup.trace else histogram_of(MIXED_TEXTS)


def measured_cost(config: RunConfig, facts: ModelFacts, cache_dir: Path) -> StepCost:
    """Return what steps of this model cost on this machine, as far as earlier runs measured them."""
    prefix = model_key(facts.folder.name, config.backend.name, config.model.dtype, config.process.streams or 1)
    steps: dict[tuple[int, int], float] = {}
    for key, measured in StepBook(cache_dir / StepBook.FILE).read().items():
        if key.startswith(prefix):
            for size, ms in measured.items():
                steps[size] = min(ms, steps.get(size, ms))
    return fit_step_cost(steps) if len(steps) >= 3 else UNMEASURED
