"""A scenario, played: the table of what waits, runs and holds blocks before every step."""

from dataclasses import dataclass

import msgspec

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.rules import Rules
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.simulation.scenario import Scenario
from sendnn_pipeline.generation.steps import Step

MAX_STEPS = 200_000
# Token ids that the simulated model gives to each request.
TOKENS_OF_REQUEST = 1_000_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The state before a step, and what the step before it gave. Requests by id, in order."""

    step: int
    tkv: int
    """Of the step before; 0 where nothing ran."""
    waiting: list[str]
    running: list[str]
    paused: list[str]
    outputs: list[str]
    """Got a token in the step before, sorted."""
    finished: list[str]
    """Ended in the step before, sorted."""
    used_blocks: int
    reserved_blocks: int
    block_tables: dict[str, list[int]]


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Net changes of the paused set."""

    pause_events: int
    resume_events: int


@dataclass(frozen=True, kw_only=True)
class Played:
    """A scenario from its first step to its last."""

    scenario: Scenario
    rules: Rules
    rows: list[Row]
    """One more than there are steps: the last is behind them all."""
    steps: list[Step | None]
    """None where nothing was there to run. A step names requests by their index in the scenario."""
    events: Events


def play(scenario: Scenario, rules: Rules | None = None) -> Played:
    """Play a scenario to its end.

    Args:
        scenario: the requests, and rules of sendnn.
        rules: to play by instead, which must have nothing against any request.

    Raises:
        ConfigError: it takes more than 200,000 steps.
    """
    rules = rules or scenario.config.rules()
    scheduler = Scheduler(rules)
    arrivals = sorted(range(len(scenario.requests)), key=lambda index: scenario.requests[index].arrival_step)
    arrivals.reverse()
    rows: list[Row] = []
    steps: list[Step | None] = []
    outputs: list[int] = []
    finished: list[int] = []
    while True:
        while arrivals and scenario.requests[arrivals[-1]].arrival_step <= len(rows):
            index = arrivals.pop()
            request = scenario.requests[index]
            scheduler.add(index, request.prompt, request.max_tokens)
        rows.append(_row(scenario, scheduler, len(rows), outputs, finished))
        if not arrivals and scheduler.is_idle:
            break
        if len(rows) > MAX_STEPS:
            raise ConfigError(
                f"scenario {scenario.name} takes more than {MAX_STEPS} steps",
                hint="lower max_tokens, or the last arrival_step",
            )
        step = scheduler.next_step()
        steps.append(step)
        outputs, finished = [], []
        if step is not None:
            got = scheduler.finish_step(step, [_token(scheduler, index) for index in step.sampled])
            outputs = [request.request_id for request in got]
            finished = [request.request_id for request in got if request.finish is not None]
    counts = scheduler.counts
    events = Events(pause_events=counts.net_pauses, resume_events=counts.net_resumes)
    return Played(scenario=scenario, rules=rules, rows=rows, steps=steps, events=events)


def _token(scheduler: Scheduler, index: int) -> int:
    """Return the next token of a request: a fixed rule of its index and position, so that prompts can refer to it."""
    return -(index * TOKENS_OF_REQUEST + len(scheduler.requests[index].token_ids) + 1)


def _row(scenario: Scenario, scheduler: Scheduler, step: int, outputs: list[int], finished: list[int]) -> Row:
    state = scheduler.state
    ids = [request.id for request in scenario.requests]
    return Row(
        step=step,
        tkv=state.tkv,
        waiting=[ids[index] for index in state.waiting],
        running=[ids[request.request_id] for request in state.running],
        paused=[ids[index] for index in state.paused],
        outputs=sorted(ids[index] for index in outputs),
        finished=sorted(ids[index] for index in finished),
        used_blocks=state.pool.num_used,
        reserved_blocks=state.pool.num_reserved,
        block_tables={ids[index]: request.blocks[:] for index, request in scheduler.requests.items() if request.blocks},
    )
