"""Known step tables, row by row: states, blocks, slots, padding, hits and tkv."""

import msgspec
import pytest

from sendnn_pipeline.generation.chunks import first_token_of, left_padding_of
from sendnn_pipeline.generation.rules import BLOCK_SIZE, sendnn_rules
from sendnn_pipeline.generation.simulation.play import play
from sendnn_pipeline.generation.simulation.scenario import read_scenarios
from sendnn_pipeline.generation.steps import DecodeStep, PrefillStep
from tests.generation.tables import SCENARIOS, advance, prompt, scenarios, scheduler, worker_tables

TABLES = worker_tables()
CASES = [case for case in TABLES["cases"] if "steps" in case]


@pytest.mark.parametrize("number", range(len(scenarios())), ids=[one["name"] for one in scenarios()])
def test_scenario(number):
    entry = read_scenarios(SCENARIOS)[number]
    played = play(entry.scenario)
    for row, wanted in zip(msgspec.to_builtins(played.rows), entry.raw["steps"], strict=True):
        assert row == wanted
    assert msgspec.to_builtins(played.events) == entry.raw["events"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_blocks_and_slots(case):
    made = scheduler(chunk_size=case["chunk_size"], num_blocks=case["num_blocks"])
    pool = made.state.pool
    assert pool.num_usable == case.get("usable_blocks", case["num_blocks"] - 1)
    names = list(case["prompts"])
    first = prompt(0, 1024)
    for index, num_tokens in enumerate(case["prompts"].values()):
        shared = case["shared_tokens"] if index else num_tokens
        made.add(index, first[:shared] + prompt(index + 1, num_tokens - shared), max_tokens=2)
    requests = dict(made.requests)
    for wanted in case["steps"]:
        step = made.next_step()
        made.finish_step(step, [7] * len(step.sampled))
        assert len(step.sampled) == wanted.get("sampled", len(step.sampled))
        if "decode" in wanted:
            check_rows(step, wanted, names)
        else:
            check_chunk(step, wanted, names, case, requests)
            assert pool.num_free == wanted["free"]
    assert made.is_idle and pool.num_free == case.get("free_at_end", pool.num_usable)


def check_chunk(step, wanted, names, case, requests):
    assert isinstance(step, PrefillStep)
    (chunk,) = step.chunks
    request = requests[chunk.request_id]
    assert names[chunk.request_id] == wanted["request"]
    assert list(chunk.block_table) == wanted["block_table"] and list(chunk.slot_blocks) == wanted["slots"]
    assert step.tkv == wanted.get("tkv", case.get("prefill_tkv", request.num_prompt_tokens))
    assert chunk.left_padding == wanted.get("left_padding", 0)
    if "chunk" in wanted:
        assert (chunk.left_padding + chunk.start) // case["chunk_size"] == wanted["chunk"]
    if "hit_tokens" in wanted:
        assert request.cached_tokens == wanted["hit_tokens"] == wanted["skipped_chunks"] * case["chunk_size"]


def check_rows(step, wanted, names):
    assert isinstance(step, DecodeStep)
    rows = [names[request_id] for request_id in step.request_ids]
    assert rows == wanted["decode"] and step.tkv == wanted["tkv"]
    assert dict(zip(rows, map(list, step.block_tables), strict=True)) == wanted["block_tables"]
    assert {row: slot // BLOCK_SIZE for row, slot in zip(rows, step.slots, strict=True)} == wanted["slots"]
    padding = dict(zip(rows, step.left_padding, strict=True))
    assert padding == wanted.get("left_padding", dict.fromkeys(rows, 0))


def test_a_plan_of_chunks():
    (case,) = (case for case in TABLES["cases"] if "plan" in case)
    rules = sendnn_rules(chunk_size=case["chunk_size"], max_num_seqs=2, max_model_len=1024, num_blocks=64)
    num_tokens, plan = case["prompts"]["r0"], case["plan"]
    padding = left_padding_of(num_tokens, rules)
    assert padding == plan["left_padding_blocks"] * BLOCK_SIZE
    assert (padding + num_tokens) / case["chunk_size"] == plan["chunks"]
    assert first_token_of(num_tokens, plan["found_tokens"], rules) == plan["used_blocks"] * BLOCK_SIZE


@pytest.mark.parametrize(
    ("table", "lacks"), [("prefix_hits_of_an_equal_prompt", 0), ("partial_hits_second_lacks_last_128", 128)]
)
def test_prefix_hits(table, lacks):
    for num_tokens, hit in TABLES[table]["hits"].items():
        made = scheduler(chunk_size=TABLES[table]["chunk_size"])
        tokens = prompt(1, int(num_tokens))
        made.add(0, tokens, 2)
        second = made.add(1, tokens[: len(tokens) - lacks] if lacks else tokens, 2)
        while not made.is_idle:
            advance(made)
        assert second.cached_tokens == hit, num_tokens
        assert made.counts.cached_tokens == hit and made.counts.prompt_tokens == 2 * len(tokens) - lacks


def test_hits_of_many_equal_prompts():
    made = scheduler(max_num_seqs=5, interleave=True)
    for index in range(5):
        made.add(index, prompt(1, 420), 3)
    while not made.is_idle:
        advance(made)
    assert 0.1 < made.counts.cached_tokens / made.counts.prompt_tokens < 4 / 5


def test_chunks_and_left_padding():
    table = TABLES["chunks_and_left_padding"]
    for num_tokens, (num_chunks, left_padding) in table["by_prompt"].items():
        made = scheduler(chunk_size=table["chunk_size"])
        made.add(0, prompt(1, int(num_tokens)), 1)
        steps = []
        while (step := advance(made)) is not None:
            steps.append(step)
        assert len(steps) == num_chunks and {step.chunks[0].left_padding for step in steps} == {left_padding}
        assert [len(step.sampled) for step in steps] == [0] * (num_chunks - 1) + [1]
        assert steps[0].chunks[0].first_row == left_padding
        assert {chunk.first_row for step in steps[1:] for chunk in step.chunks} <= {0}


def test_tkv_and_tokens_of_chunks():
    table = TABLES["tkv"]
    limits = {name: table[name] for name in ("chunk_size", "max_model_len", "max_num_seqs")}
    made = scheduler(**limits)
    made.add(0, prompt(1, 52), 2)
    assert [advance(made).tkv, advance(made).tkv] == table["prompt_52"]
    for num_tokens in (148, 236):
        made = scheduler(**limits)
        made.add(0, prompt(1, num_tokens), 2)
        wanted = table[f"prompt_{num_tokens}"]
        for count in wanted["tokens"]:
            step = advance(made)
            assert len(step.chunks[0].token_ids) == count and step.tkv == wanted["tkv"]
    made = scheduler(**limits)
    made.add(0, prompt(1, 62), 9)
    made.add(1, prompt(2, 63), 9)
    advance(made)
    advance(made)
    assert [advance(made).tkv for _ in range(3)] == table["decode_prompts_62_and_63"]["tkv"]


def test_pausing():
    table = TABLES["pausing"]
    made = scheduler(max_num_seqs=4, max_batch_tkv=table["max_batch_tkv"], interleave=True)
    for index, (num_tokens, max_tokens) in enumerate(zip(table["prompts"], table["max_tokens"], strict=True)):
        made.add(index, prompt(index, num_tokens), max_tokens)
    requests, tkv, paused, finished = dict(made.requests), [0], {}, {}
    while (step := advance(made)) is not None:
        if made.state.paused and len(step.request_ids) > 1:
            paused[str(len(tkv))] = [str(index) for index in made.state.paused]
        for request_id in [index for index in requests if index not in made.requests]:
            finished[str(len(tkv))] = str(request_id)
            del requests[request_id]
        tkv.append(step.tkv)
    assert tkv[1 : 1 + len(table["tkv"])] == table["tkv"] and tkv[15] == table["tkv_after_15"]
    assert finished == table["finished"]
    assert {step: ids for step, ids in paused.items() if step in table["paused"]} == table["paused"]
    # A request for another is a pause and a resume, and no net change.
    counts = made.counts
    assert (counts.net_pauses, counts.net_resumes, counts.pauses, counts.resumes) == (1, 1, 5, 5)


@pytest.mark.parametrize("load", range(2))
def test_the_volume_never_exceeds_its_limit(load):
    table = TABLES["tkv_limit_stress"]
    limits = {name: table[name] for name in ("chunk_size", "max_num_seqs", "max_model_len", "num_blocks")}
    made = scheduler(**limits, max_batch_tkv=table["limit"], interleave=True)
    later, number = [], 0
    for group in table["loads"][load]:
        for _ in range(group.get("count", 1)):
            number += 1
            wanted = number, prompt(number, group["prompt"]), group["max_tokens"]
            if "after_tokens" in group:
                later.append((group["after_tokens"], wanted))
            else:
                made.add(*wanted)
    first = made.requests[1]
    while not made.is_idle:
        while later and first.num_generated >= later[0][0]:
            made.add(*later.pop(0)[1])
        step = advance(made)
        assert len(step.request_ids) * step.tkv <= table["limit"]
    assert not later and made.counts.pauses == made.counts.resumes > 0
