"""What the simulation predicts by the times of Programs, against the engine itself."""

import statistics
import time
from collections import defaultdict
from itertools import pairwise

import msgspec
import pytest
from torch import set_num_threads

from sendnn_pipeline.generation.simulation.play import play
from sendnn_pipeline.generation.simulation.predict import predict
from sendnn_pipeline.generation.simulation.program_costs import ProgramCosts, program_costs
from sendnn_pipeline.generation.simulation.scenario import Scenario
from sendnn_pipeline.generation.steps import PrefillStep
from sendnn_pipeline.messages import Part, StepDone
from tests.conftest import resolved_run
from tests.generation.cores import GREEDY, Core
from tests.generation.decoders import SIZES, make_decoder
from tests.generation.test_simulation import CONFIG
from tests.served import EAGER_FLOAT32

# Large enough that the Programs take the most of a step.
LARGE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8}
# The step before which each arrives, tokens of its prompt, tokens of its answer.
REQUESTS = [(0, 60, 30), (0, 200, 40), (3, 130, 20), (5, 300, 30), (9, 20, 50)]
REQUESTS += [(15, 90, 40), (15, 140, 10), (40, 250, 30), (41, 10, 20), (60, 64, 40)]
WITHIN = 0.2


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    folder = make_decoder(tmp_path_factory.mktemp("large"), "Llama", SIZES | LARGE)
    words = ("scheduler.max_num_seqs=8", "scheduler.chunk_size=128", "process.num_cpus=1")
    made = Core(resolved_run([*EAGER_FLOAT32, f"model.path={folder}", *words]))
    # What others do on this machine takes time, but none of this process.
    made.core.clock = time.process_time
    return made


def prompt(index, length):
    return [3 + (7 * index + at) % 125 for at in range(length)]


def scenario():
    requests = [
        {"id": str(index), "arrival_step": step, "prompt": prompt(index, length), "max_tokens": most}
        for index, (step, length, most) in enumerate(REQUESTS)
    ]
    return msgspec.convert({"name": "real", "config": CONFIG, "requests": requests}, Scenario)


def rehearsed(core):
    """Time the steps that a start times, by this process's own time."""

    def once(program, sizes):
        began = time.process_time()
        core.core.rehearse(program, sizes, check=False)
        return (time.process_time() - began) * 1000

    return {
        program.name: {step.sizes: min(once(program, step.sizes) for _ in range(4)) for step in steps}
        for program, steps in core.run.plan.steps.items()
    }


def recorded(core, steps):
    """Return what the steps of a run took on average, by the sizes of its Programs; logits are in it."""
    plan, times = core.run.plan, defaultdict(lambda: defaultdict(list))
    done = [message for message in core.messages if isinstance(message, StepDone)]
    for step, took in zip(steps, done, strict=True):
        if isinstance(step, PrefillStep):
            lengths = [len(chunk.token_ids) for chunk in step.chunks]
            sizes = (sum(lengths), len(lengths), max(lengths), max(len(chunk.block_table) for chunk in step.chunks))
        else:
            sizes = (len(step.request_ids), sum(map(len, step.block_tables)))
        times[took.program][sizes].append((took.finished - took.started) * 1000)
    means = {name: {sizes: statistics.mean(ms) for sizes, ms in found.items()} for name, found in times.items()}
    return {**means, plan.logits.name: {(1,): 1e-6}}


def run(core):
    """Play the same against the engine; return milliseconds of all, to first tokens, and between tokens."""
    core.messages.clear()
    waiting, step, began = list(enumerate(REQUESTS)), 0, time.process_time()
    while waiting or not core.core.idle:
        while waiting and waiting[0][1][0] <= step:
            index, (_, length, most) = waiting.pop(0)
            core.ask(
                index, [prompt(index, length)], msgspec.structs.replace(GREEDY, stop_token_ids=[]), max_tokens=most
            )
        core.core.step()
        step += 1
    total_ms = (time.process_time() - began) * 1000
    first, between = [], []
    for index in range(len(REQUESTS)):
        parts = [part for part in core.messages if isinstance(part, Part) and part.request_id == index]
        first.append((parts[0].finished - parts[0].enqueued) * 1000)
        between += [(two.finished - one.finished) * 1000 for one, two in pairwise(parts)]
    return total_ms, statistics.mean(first), statistics.mean(between)


def test_a_real_run_is_predicted_by_the_times_of_its_programs(core):
    set_num_threads(1)
    before = program_costs(core.run.plan, rehearsed(core))
    total_ms, first_ms, between_ms = run(core)
    played = play(scenario(), core.run.plan.rules)
    # What its own steps took on average: how fast the machine was at another time is not in question.
    found = predict(played, program_costs(core.run.plan, recorded(core, played.steps)))
    assert found.output_tokens == sum(most for _, _, most in REQUESTS)
    assert found.total_ms == pytest.approx(total_ms, rel=WITHIN)
    assert found.tokens_per_second == pytest.approx(found.output_tokens / total_ms * 1000, rel=WITHIN)
    assert statistics.mean(one.ttft_ms for one in found.requests) == pytest.approx(first_ms, rel=WITHIN)
    num_gaps = [most - 1 for _, _, most in REQUESTS]
    gaps = sum(one.itl_ms * number for one, number in zip(found.requests, num_gaps, strict=True))
    assert gaps / sum(num_gaps) == pytest.approx(between_ms, rel=WITHIN)
    # And by what a start measures, on a machine that is anything but quiet.
    assert total_ms / 2 < predict(played, before).total_ms < total_ms * 2


def test_costs_follow_what_was_timed(core):
    plan, decode, logits = core.run.plan, (3.0, 1.0, 0.125), (1.0, 0.5)
    exact = ProgramCosts((2.0, 0.5, 0.25), decode, decode, logits, logits)
    times = {
        plan.prefill("").name: {
            sizes: 2 + sizes[0] / 2 + sizes[1] * sizes[2] * sizes[3] / 4
            for sizes in ((16, 1, 16, 1), (64, 1, 64, 1), (128, 2, 64, 1), (128, 1, 128, 8))
        },
        plan.decode("").name: {(rows, blocks): 3 + rows + blocks / 8 for rows, blocks in ((1, 1), (1, 8), (8, 64))},
        plan.logits.name: {(1,): 1.5, (8,): 5.0},
    }
    found = program_costs(plan, times)
    steps = play(scenario(), plan.rules).steps
    assert [found(step) for step in steps] == pytest.approx([exact(step) for step in steps])
    assert program_costs(plan, {**times, plan.logits.name: {}}) is None
