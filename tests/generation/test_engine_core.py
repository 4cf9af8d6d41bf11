"""The engine's core in this process, against transformers' own generation."""

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation import compute
from sendnn_pipeline.generation.messages import Sampling
from sendnn_pipeline.messages import StepDone
from tests.conftest import resolved_run
from tests.generation.cores import GREEDY, Core
from tests.generation.decoders import KNOWN, make_decoder
from tests.served import EAGER_FLOAT32

LENGTHS = (1, 5, 63, 64, 65, 130, 200, 300, 7, 90)
SMALL = ("scheduler.max_num_seqs=8", "scheduler.chunk_size=128")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_decoder(tmp_path_factory.mktemp("decoder"), "Llama", KNOWN["Llama"], scale=4.0)


@pytest.fixture(scope="module")
def reference(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(5)
    made = [torch.randint(3, 128, (length,), generator=generator).tolist() for length in LENGTHS]
    # One as it was, and one that begins as another does.
    return [*made, made[6], made[6][:130] + made[2]]


@pytest.fixture(scope="module")
def core(folder):
    return Core(resolved_run([*EAGER_FLOAT32, f"model.path={folder}", *SMALL]))


def generated(reference, prompt, number=20):
    ids = torch.tensor([prompt])
    with torch.no_grad():
        whole = reference.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=number,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=0,
        )
    return whole[0, len(prompt) :].tolist()


def logprobs(reference, ids):
    with torch.no_grad():
        return reference(torch.tensor([ids])).logits[0].log_softmax(-1)


def test_greedy_text_and_how_likely_it_was_are_transformers_own(core, reference, prompts):
    asked = msgspec.structs.replace(GREEDY, logprobs=2)
    for request_id, prompt in enumerate(prompts):
        core.ask(request_id, [prompt], asked)
    core.drain()
    for request_id, prompt in enumerate(prompts):
        tokens = core.tokens(request_id)
        assert tokens == generated(reference, prompt)
        outputs = core.outputs(request_id)[0]
        assert [output.finish for output in outputs] == [""] * (len(outputs) - 1) + [
            "stop" if tokens[-1] == 1 else "length"
        ]
        wanted = logprobs(reference, prompt + tokens)
        for index, output in enumerate(outputs):
            (found,) = output.logprobs
            row = wanted[len(prompt) - 1 + index]
            assert found.token_id == tokens[index] and found.rank == 1 and len(found.top) == 2
            assert abs(found.logprob - row[found.token_id]) < 1e-4
            assert [token for token, _ in found.top] == row.topk(2).indices.tolist()
    cached = [core.outputs(request_id)[0][0].cached_tokens for request_id in range(len(prompts))]
    assert cached == [0] * len(LENGTHS) + [192, 128]


def test_without_a_prefix_cache_the_text_is_the_same(folder, core, prompts):
    other = Core(resolved_run([*EAGER_FLOAT32, f"model.path={folder}", *SMALL, "engine.prefix_caching=false"]))
    for request_id, prompt in enumerate(prompts):
        for one in (core, other):
            one.ask(100 + request_id, [prompt])
    for one in (core, other):
        one.drain()
    for request_id in range(100, 100 + len(prompts)):
        assert core.tokens(request_id) == other.tokens(request_id)
        assert other.outputs(request_id)[0][0].cached_tokens == 0


def test_logprobs_of_prompts(core, reference, prompts):
    core.ask(200, [prompts[7]], msgspec.structs.replace(GREEDY, prompt_logprobs=1), max_tokens=1)
    core.drain()
    (output,) = core.outputs(200)[0]
    wanted, following = logprobs(reference, prompts[7]), prompts[7][1:]
    assert [found.token_id for found in output.prompt_logprobs] == following and output.cached_tokens == 0
    for index, found in enumerate(output.prompt_logprobs):
        assert abs(found.logprob - wanted[index, found.token_id]) < 1e-4
        assert found.rank == int((wanted[index] > wanted[index, found.token_id]).sum()) + 1


def test_a_seed_gives_the_same_text_whatever_runs_beside_it(core, prompts):
    asked = Sampling(temperature=1.0, top_p=0.9, seed=7, repetition_penalty=1.2, presence_penalty=0.1, min_tokens=5)
    core.ask(300, [prompts[5]], asked, n=3)
    core.drain()
    for request_id in range(301, 305):
        core.ask(request_id, [prompts[request_id - 300]])
    core.ask(310, [prompts[0], prompts[5]], asked, n=3)
    core.drain()
    texts = [core.tokens(300, index) for index in range(3)]
    assert texts == [core.tokens(310, 3 + index) for index in range(3)]
    assert len({tuple(text) for text in texts}) == 3 and all(len(text) >= 5 for text in texts)


def test_what_is_forbidden_does_not_come(core, prompts):
    core.ask(400, [prompts[1]])
    core.drain()
    usual = core.tokens(400)
    cases = {
        401: Sampling(temperature=0.0, logit_bias={usual[0]: -100.0}),
        402: Sampling(temperature=0.0, bad_words=[[usual[0]]]),
        403: Sampling(temperature=0.0, bad_words=[usual[:2]]),
        404: Sampling(temperature=0.0, allowed_token_ids=[5, 6]),
        405: Sampling(temperature=0.0, stop_token_ids=[usual[1]]),
        406: Sampling(temperature=0.0, stop_token_ids=[usual[1]], min_tokens=4),
    }
    for request_id, asked in cases.items():
        core.ask(request_id, [prompts[1]], asked)
    core.drain()
    assert core.tokens(401)[0] != usual[0] and usual[0] not in core.tokens(402)
    assert core.tokens(403)[0] == usual[0] and core.tokens(403)[1] != usual[1]
    assert set(core.tokens(404)) <= {5, 6}
    assert core.tokens(405) == usual[:2] and core.outputs(405)[0][-1].finish == "stop"
    assert usual[1] not in core.tokens(406)[:4] and len(core.tokens(406)) >= 4


def test_one_that_nothing_is_left_to_choose_for_fails_alone(core, prompts, reference):
    nothing = Sampling(temperature=0.0, allowed_token_ids=[5], bad_words=[[5]])
    core.ask(500, [prompts[2]], nothing)
    core.ask(501, [prompts[3]])
    core.drain()
    assert "no token is allowed" in core.failures()[500].message and not core.tokens(500)
    assert core.tokens(501) == generated(reference, prompts[3])


def test_numbers_that_are_not_finite_and_errors_fail_one_request(core, prompts, reference, monkeypatch):
    runner, broken = core.core.runner, []
    decode = type(runner).decode

    def failing(self, step):
        if any(len(table) == 4 for table in step.block_tables):
            broken.append(len(step.request_ids))
            raise RuntimeError("a kernel failed")
        return decode(self, step)

    monkeypatch.setattr(type(runner), "decode", failing)
    core.ask(600, [prompts[6]])
    core.ask(601, [prompts[1]])
    core.drain()
    assert core.failures()[600].message == "could not be computed"
    assert core.failures()[600].detail == "RuntimeError: a kernel failed" and broken
    assert core.tokens(601) == generated(reference, prompts[1])
    head = runner.head

    def poisoned(hidden):
        logits, greedy, finite = head(hidden)
        return logits, greedy, finite & (greedy != first)

    first = generated(reference, prompts[8])[0]
    monkeypatch.undo()
    object.__setattr__(runner, "head", poisoned)
    core.ask(602, [prompts[8]])
    core.ask(603, [prompts[4]], max_tokens=1)
    core.drain()
    object.__setattr__(runner, "head", head)
    assert "not finite" in core.failures()[602].message
    assert core.tokens(603) == generated(reference, prompts[4], 1)


def test_a_message_that_no_step_takes_is_refused_alone(core, prompts, reference):
    cases = [
        ({"prompts": [[5], [5, 128]]}, (1, "has token id 128; the vocabulary ends at 127")),
        ({"prompts": [[-1]]}, (0, "has token id -1")),
        ({"prompts": [[5], []]}, (1, "has 0 prompt tokens")),
        ({"prompts": [[5] * 5000]}, (0, "more than max_model_len")),
        ({"prompts": [[5]], "max_tokens": 0}, (0, "1 prompt tokens and 0 new ones")),
        ({"prompts": []}, (-1, "0 prompts")),
        ({"sampling": Sampling(repetition_penalty=1.5, bad_words=[[5, 128]])}, (-1, "its sampling has token id 128")),
        ({"sampling": Sampling(logit_bias={-129: 1.0})}, (-1, "its sampling has token id -129")),
        ({"sampling": Sampling(stop_token_ids=[128], min_tokens=1)}, (-1, "its sampling has token id 128")),
        ({"sampling": Sampling(allowed_token_ids=[128])}, (-1, "its sampling has token id 128")),
    ]
    for number, (asked, _) in enumerate(cases):
        core.ask(630 + number, **{"prompts": [prompts[0]], **asked})
    core.ask(650, [prompts[1]])
    core.drain()
    for number, (_, (item, words)) in enumerate(cases):
        found = core.failures()[630 + number]
        assert (found.reason, found.item) == ("refused", item) and words in found.message
    assert core.tokens(650) == generated(reference, prompts[1])


def test_errors_in_what_follows_the_layers_fail_one_request(core, prompts, reference, monkeypatch):
    runner, sample = core.core.runner, compute.sample
    logits, together = type(runner).logits, []

    def logits_of_one(self, states):
        together.append(len(states))
        if len(states) > 1:
            raise RuntimeError("too many rows")
        return logits(self, states)

    def sample_but_one(found, row, sequence):
        if sequence.request_id == 660:
            raise IndexError("out of bounds")
        return sample(found, row, sequence)

    monkeypatch.setattr(type(runner), "logits", logits_of_one)
    monkeypatch.setattr(compute, "sample", sample_but_one)
    core.ask(660, [prompts[2]])
    core.ask(661, [prompts[1]])
    core.ask(662, [prompts[4]])
    core.drain()
    assert max(together) > 1 and core.failures()[660].detail == "IndexError: out of bounds"
    assert core.tokens(661) == generated(reference, prompts[1])
    assert core.tokens(662) == generated(reference, prompts[4])


def test_errors_in_prefill_fail_one_request(core, prompts, reference, monkeypatch):
    runner, together = type(core.core.runner), []
    prefill, report = runner.prefill, compute.token_logprobs
    failing, unreportable = prompts[1], prompts[8]

    def prefill_but_one(self, chunks):
        together.append(len(chunks))
        if any(list(chunk.token_ids) == failing for chunk in chunks):
            raise RuntimeError("a kernel failed")
        return prefill(self, chunks)

    def report_but_one(rows, following, top):
        if following == unreportable[1:]:
            raise RuntimeError("no report")
        return report(rows, following, top)

    monkeypatch.setattr(runner, "prefill", prefill_but_one)
    monkeypatch.setattr(compute, "token_logprobs", report_but_one)
    core.ask(620, [failing])
    core.ask(621, [[9, 8, 7]])
    core.ask(622, [unreportable], Sampling(temperature=0.0, prompt_logprobs=0))
    core.drain()
    assert max(together) == 3
    assert core.failures()[620].detail == "RuntimeError: a kernel failed"
    assert core.failures()[622].detail == "RuntimeError: no report"
    assert core.tokens(621) == generated(reference, [9, 8, 7])


@pytest.mark.parametrize("words", [("cache.num_blocks=3",), ("scheduler.max_num_batched_tokens=64",)])
def test_steps_that_are_timed_fit_the_cache_and_their_programs(folder, words):
    options = (f"model.path={folder}", "model.max_model_len=128", "scheduler.chunk_size=128")
    plan = resolved_run([*EAGER_FLOAT32, *options, *words]).run.plan
    for program, steps in plan.steps.items():
        assert all(size <= dim.max for step in steps for size, dim in zip(step.sizes, program.dims, strict=True))
    for _, prompts, _, blocks in (step.sizes for step in plan.steps[plan.prefill("")]):
        assert prompts * blocks < plan.rules.num_blocks


def test_a_step_of_less_than_a_block_is_refused(folder):
    with pytest.raises(ConfigError, match="max_num_batched_tokens=32 is less than a block of 64 tokens") as found:
        resolved_run([*EAGER_FLOAT32, f"model.path={folder}", "scheduler.max_num_batched_tokens=32"])
    assert found.value.hint == "use 64 or more"


def test_a_poisoned_prompt_reaches_nobody_else(core, prompts, reference):
    """Neither beside it, nor in the blocks that it leaves."""
    runner = core.core.runner
    wanted = {index: generated(reference, prompts[index]) for index in (0, 1, 2, 8)}
    used = {token for index, tokens in wanted.items() for token in tokens + prompts[index]}
    embed, poison = runner.embed, min(set(range(3, 128)) - used)

    def poisoned(ids, positions):
        (hidden,) = embed(ids, positions)
        return (hidden.masked_fill((ids == poison)[:, None], float("nan")),)

    object.__setattr__(runner, "embed", poisoned)
    for round_ in range(3):
        core.ask(900 + round_, [[poison] * 70])
        core.ask(910 + round_, [prompts[1]], Sampling(temperature=0.0, logit_bias={poison: 1000.0}), max_tokens=3)
        for index in wanted:
            core.ask(1000 * (round_ + 1) + index, [prompts[index]])
        core.drain()
        assert "not finite" in core.failures()[900 + round_].message
        assert "not finite" in core.failures()[910 + round_].message and core.tokens(910 + round_) == [poison]
        for index, tokens in wanted.items():
            assert core.tokens(1000 * (round_ + 1) + index) == tokens
    object.__setattr__(runner, "embed", embed)


def test_whoever_leaves_frees_blocks_at_every_stage(core, prompts):
    free = core.free_blocks
    for stop_after in range(8):
        for request_id in (700, 701):
            core.ask(request_id, [prompts[7]], n=2)
        for _ in range(stop_after):
            core.core.step()
        core.cancel(700)
        core.cancel(701)
        assert core.core.idle and not core.core.sequences and core.free_blocks == free


def test_a_deadline_that_passes(core, prompts):
    core.ask(800, [prompts[7]], deadline=0.0)
    core.drain()
    assert core.failures()[800].reason == "deadline"


def test_every_length_of_a_prompt(core):
    """And nothing that was not planned is run."""
    for request_id in range(10000, 10000 + 448, 7):
        length = request_id - 9999
        core.ask(request_id, [[3 + token % 125 for token in range(length)]], max_tokens=2)
        core.drain()
        assert core.tokens(request_id)
    steps = [message for message in core.messages if isinstance(message, StepDone)]
    assert {step.program.partition("[")[0] for step in steps} == {"prefill", "decode"}
