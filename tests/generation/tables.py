"""Workloads with known step tables, and how the scheduler is brought through them."""

import json
from pathlib import Path
from typing import Any

from sendnn_pipeline.generation.rules import sendnn_rules
from sendnn_pipeline.generation.scheduler import Scheduler

DATA = Path(__file__).parent / "data"
SCENARIOS = DATA / "scheduler-scenarios.json"


def scenarios() -> list[dict[str, Any]]:
    """Return the scenarios with their rows."""
    return json.loads(SCENARIOS.read_text())


def worker_tables() -> dict[str, Any]:
    """Return the tables of blocks, slots and tkv."""
    return json.loads((DATA / "worker-tables.json").read_text())


def scheduler(**rules: Any) -> Scheduler:
    """Make one with sendnn's rules, for two requests without interleaving unless told otherwise."""
    defaults = {"chunk_size": 128, "max_num_seqs": 2, "max_model_len": 1024, "num_blocks": 64, "interleave": False}
    return Scheduler(sendnn_rules(**(defaults | rules)))


def advance(scheduler: Scheduler, stopped=()):
    """Run the next step with made-up tokens and return it; None where there is none."""
    step = scheduler.next_step()
    if step is not None:
        scheduler.finish_step(step, [7] * len(step.sampled), stopped)
    return step


def prompt(number: int, num_tokens: int) -> list[int]:
    """Return tokens that no prompt of another number has."""
    return list(range(number * 100_000, number * 100_000 + num_tokens))
