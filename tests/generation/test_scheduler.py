"""The scheduler as an engine uses it: life cycle, named reasons, chunks of several prompts, shared prefixes."""

import pytest

from sendnn_pipeline.generation.prefill import MAX_OVERTAKES
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.request import Finish, Stage
from sendnn_pipeline.generation.rules import Rules
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.steps import DecodeStep, PrefillStep
from tests.generation.tables import advance, prompt, scheduler


def cpu(**rules):
    """A scheduler of a device that takes chunks of any length, of several prompts a step."""
    defaults = {
        "max_num_seqs": 8,
        "max_model_len": 1024,
        "num_blocks": 100,
        "chunk_size": 256,
        "max_prefill_tokens": 512,
    }
    return Scheduler(Rules(**(defaults | rules)))


def chunks(step):
    return [(chunk.request_id, chunk.start, chunk.end) for chunk in step.chunks]


def finish(made):
    while advance(made) is not None:
        pass
    assert made.is_idle and made.state.pool.num_used == made.state.pool.num_reserved == 0


def test_nothing_to_do():
    made = scheduler()
    assert made.next_step() is None and made.is_idle
    assert made.cancel(1) is None and made.stop(1) is None and made.why(1) is None
    made.set_ready(1)


def test_a_request_from_its_prompt_to_its_length():
    made = cpu()
    request = made.add(5, prompt(1, 70), 3)
    assert request.stage is Stage.WAITING
    step = made.next_step()
    assert isinstance(step, PrefillStep) and step.sampled == (5,) and request.stage is Stage.PREFILLING
    (chunk,) = step.chunks
    assert chunk.token_ids == tuple(prompt(1, 70)) and chunk.block_table == chunk.slot_blocks == (1, 2)
    assert chunk.slots[:65] == [*range(64, 128), 128] and chunk.first_row == 0 and chunk.num_rows == 128
    assert made.finish_step(step, [11]) == [request] and request.finish is None and request.stage is Stage.DECODING
    step = made.next_step()
    assert isinstance(step, DecodeStep) and step.tkv == 71 and step.left_padding == (0,)
    assert (step.token_ids, step.positions, step.slots, step.block_tables) == ((11,), (70,), (2 * 64 + 6,), ((1, 2),))
    made.finish_step(step, [12])
    step = made.next_step()
    assert made.finish_step(step, [13]) == [request]
    assert request.finish is Finish.LENGTH and request.token_ids[70:] == [11, 12, 13]
    assert made.is_idle and made.next_step() is None


def test_a_stop_ends_a_request_early():
    made = cpu()
    first, second = made.add(1, prompt(1, 10), 9), made.add(2, prompt(2, 10), 9)
    advance(made, stopped={1})
    assert first.finish is Finish.STOP and second.finish is None
    assert made.stop(2) is second and second.finish is Finish.STOP
    assert made.is_idle and made.state.pool.num_used == 0


def test_one_step_at_a_time():
    made = cpu()
    made.add(1, prompt(1, 10), 9)
    step = made.next_step()
    with pytest.raises(AssertionError, match="not ended"):
        made.next_step()
    made.finish_step(step, [1])
    with pytest.raises(AssertionError, match="another step"):
        made.finish_step(step, [1])
    with pytest.raises(AssertionError, match="queued already"):
        made.add(1, prompt(1, 10), 9)
    with pytest.raises(AssertionError, match="more than max_model_len"):
        made.add(2, prompt(1, 10), 9999)


def test_cancelling_in_every_stage_frees_its_blocks_at_once():
    made = scheduler(max_batch_tkv=1024, interleave=True, max_num_seqs=3)
    waiting = made.add(1, prompt(1, 300), 9)
    made.cancel(1)
    assert made.is_idle and waiting.finish is Finish.CANCELLED
    made.add(2, prompt(2, 300), 9)
    advance(made)
    assert made.requests[2].stage is Stage.PREFILLING and made.state.pool.num_used == 1
    made.cancel(2)
    assert made.state.pool.num_used == made.state.pool.num_reserved == 0
    made.add(3, prompt(3, 30), 9)
    advance(made)
    advance(made)
    assert made.requests[3].stage is Stage.DECODING
    step = made.next_step()
    # While it computes: its token goes nowhere, and its id is free again.
    made.cancel(3)
    assert made.state.pool.num_used == 0
    again = made.add(3, prompt(4, 30), 9)
    assert made.finish_step(step, [5]) == [] and again.num_generated == 0
    finish(made)


def test_cancelling_a_paused_request():
    made = scheduler(max_batch_tkv=1024)
    for index in (1, 2):
        made.add(index, prompt(index, 500), 100)
    while not made.state.paused:
        advance(made)
    (paused,) = made.state.paused
    assert made.why(paused) is Refusal.VOLUME and made.requests[paused].num_pauses == 1
    made.cancel(paused)
    assert not made.state.paused
    finish(made)


def test_a_step_that_fails_ends_its_own_requests_only():
    made = scheduler(interleave=True)
    made.add(1, prompt(1, 300), 20)
    made.add(2, prompt(2, 300), 20)
    while not made.state.decoding:
        advance(made)
    advance(made)
    step = made.next_step()
    assert step.request_ids == (2,)
    (dropped,) = made.drop_step(step)
    assert dropped.request_id == 2 and dropped.finish is Finish.CANCELLED and list(made.requests) == [1]
    # What it had not computed cannot be found by others.
    again = made.add(3, prompt(2, 300), 2)
    finish(made)
    assert again.cached_tokens == 0


def test_reasons_to_wait():
    made = scheduler(interleave=True, num_blocks=10)
    made.add(1, prompt(1, 300), 4)
    made.add(2, prompt(2, 100), 300)
    made.add(3, prompt(3, 10), 10)
    made.add(4, prompt(4, 10), 10, is_ready=False)
    assert made.why(2) is Refusal.ORDER and made.why(4) is Refusal.NOT_READY
    advance(made)
    assert made.why(1) is None and made.why(2) is Refusal.PREFILL and made.why(3) is Refusal.ORDER
    while not made.state.decoding:
        advance(made)
    advance(made)
    assert made.why(2) is Refusal.INTERLEAVE
    advance(made)
    assert made.why(2) is Refusal.BLOCKS and made.requests[2].refusals[Refusal.BLOCKS] == 1
    second = made.requests[2]
    while 1 in made.requests:
        advance(made)
    assert second.refusals[Refusal.BLOCKS] == made.counts.refusals[Refusal.BLOCKS] == 2
    advance(made)
    assert made.why(2) is None
    made.set_ready(4)
    finish(made)
    assert made.counts.refusals[Refusal.SEQUENCE_SLOTS] > 0 and made.counts.refusals[Refusal.NOT_READY] > 0
    assert Refusal.BLOCKS.is_capacity and not Refusal.ORDER.is_capacity


def test_prompts_wait_for_paused_requests():
    made = scheduler(max_batch_tkv=1024, max_num_seqs=4)
    for index in (1, 2):
        made.add(index, prompt(index, 500), 100)
    while not made.state.paused:
        advance(made)
    made.add(3, prompt(3, 100), 2)
    advance(made)
    assert made.why(3) is Refusal.PAUSED
    finish(made)


def test_what_is_not_ready_is_overtaken():
    made = cpu()
    made.add(1, prompt(1, 10), 2, is_ready=False)
    made.add(2, prompt(2, 10), 2)
    assert advance(made).request_ids == (2,)
    made.set_ready(1)
    advance(made)
    assert advance(made).request_ids == (1,)


def test_a_volume_that_is_too_large_is_overtaken_but_not_for_ever():
    made = scheduler(max_batch_tkv=1024, pausing=False, interleave=True, max_num_seqs=8)
    made.add(0, prompt(0, 10), 6)
    advance(made)
    large = made.add(1, prompt(1, 100), 900)
    for number in range(2, 1000):
        if large.stage is not Stage.WAITING:
            break
        made.add(number, prompt(number, 10), 6)
        advance(made)
    assert large.num_overtakes == MAX_OVERTAKES and large.refusals[Refusal.VOLUME] > MAX_OVERTAKES
    finish(made)


def test_without_pausing_no_volume_is_admitted_that_could_exceed_the_limit():
    made = scheduler(max_batch_tkv=1024, pausing=False, max_num_seqs=4)
    for index in range(4):
        made.add(index, prompt(index, 100), 300)
    while not made.is_idle:
        step = advance(made)
        assert len(step.request_ids) * step.tkv <= 1024
    assert made.counts.pauses == 0 and made.counts.refusals[Refusal.VOLUME] > 0


def test_prompts_under_way_do_not_wait_for_each_other():
    made = cpu(rectangular_decode=True, max_batch_tkv=100, pausing=False, chunk_size=64)
    for index in (1, 2):
        made.add(index, prompt(index, 65), 1)
    assert chunks(advance(made)) == [(1, 0, 64), (2, 0, 64)]
    # Either would be too much beside the other, so they end one after the other.
    assert chunks(advance(made)) == [(1, 64, 65)] and made.why(2) is Refusal.VOLUME
    assert chunks(advance(made)) == [(2, 64, 65)]
    finish(made)


def test_a_step_has_chunks_of_several_prompts():
    made = cpu(max_prefill_tokens=300)
    for index, num_tokens in enumerate((100, 100, 90, 500, 30)):
        made.add(index, prompt(index, num_tokens), 8)
    step = advance(made)
    assert chunks(step) == [(0, 0, 100), (1, 0, 100), (2, 0, 90)] and step.sampled == (0, 1, 2)
    assert made.why(3) is Refusal.PREFILL
    assert advance(made).request_ids == (2, 1, 0)
    # No more than a chunk of one prompt, and what is left of the step for the next.
    assert chunks(advance(made)) == [(3, 0, 256), (4, 0, 30)]
    assert isinstance(advance(made), DecodeStep)
    assert chunks(advance(made)) == [(3, 256, 500)]
    finish(made)


def test_a_prefix_is_shared_from_any_block_on():
    made = cpu(interleave=False)
    made.add(1, prompt(1, 200), 2)
    advance(made)
    second = made.add(2, prompt(1, 150) + prompt(2, 50), 2)
    step = made.next_step()
    (chunk,) = step.chunks
    assert (chunk.start, chunk.end, second.cached_tokens) == (128, 200, 128)
    assert chunk.block_table == (1, 2, 5, 6) and chunk.slot_blocks == (5, 6) and chunk.first_row == 0
    made.finish_step(step, [7])
    other = made.add(3, prompt(1, 200), 2, salt=b"another image")
    advance(made)
    assert other.cached_tokens == 0
    finish(made)


def test_an_answer_is_part_of_the_next_prompt_s_prefix():
    made = cpu(num_blocks=20)
    first = made.add(1, prompt(1, 100), 60)
    finish(made)
    second = made.add(2, [*first.token_ids[:-1], *prompt(2, 10)], 2)
    finish(made)
    assert second.cached_tokens == 128 and made.counts.cached_tokens == 128


def test_a_prefix_is_overwritten_last_and_its_end_first():
    made = cpu(num_blocks=6, max_model_len=320)
    made.add(1, prompt(1, 256), 2)
    finish(made)
    # Blocks 1 to 4 can be found; one block was never full. Two are needed: the unfound one, and the prefix's end.
    made.add(2, prompt(2, 100), 2)
    finish(made)
    again = made.add(3, prompt(1, 256), 2)
    finish(made)
    assert again.cached_tokens == 192
