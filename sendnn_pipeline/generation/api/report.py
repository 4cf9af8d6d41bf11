"""What a request took, of the steps that computed it: performance log, histograms, and what a bench is told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.generation.measures import DECODE, GENERATED, ITL, MAX_TOKENS, TPOT, TTFT
from sendnn_pipeline.generation.messages import GenerationOutput, StepTime
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of


@dataclass
class Course:
    """The steps of one answer."""

    chunks: list[StepTime] = field(default_factory=list)
    decodes: list[StepTime] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    interrupted_seconds: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)

    def take(self, output: GenerationOutput) -> None:
        """Take what a part says."""
        (self.decodes if self.chunks else self.chunks).extend(output.steps)
        self.pauses += output.pauses
        self.interrupted_seconds += output.interrupted_seconds
        self.refusals.update(output.refusals)

    @property
    def token_times(self) -> list[float]:
        """When each token was there."""
        return [step.start + step.seconds for step in (*self.chunks[-1:], *self.decodes)]

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        return [later - earlier for earlier, later in pairwise(self.token_times)]


def report(call: Call, courses: Sequence[Course], finishes: Iterable[str], max_tokens: int) -> None:
    """Write the account of a request that is answered; of several answers, what all of them took together.

    Args:
        call: that is reported.
        courses: of its answers.
        finishes: why each ended.
        max_tokens: most that were asked for.
    """
    begun = [course for course in courses if course.chunks]
    if not begun:
        return
    first = min(course.chunks[0].start for course in begun)
    firsts = [course.token_times[0] for course in begun]
    decode = sum(sum(course.gaps) for course in begun)
    interrupted = sum(course.interrupted_seconds for course in begun)
    num_tokens = sum(len(course.token_times) for course in begun)
    num_gaps = num_tokens - len(begun)
    call.finish_reason = "length" if set(finishes) == {"length"} else "stop"
    refusals = sum((course.refusals for course in courses), Counter())
    call.report = {
        "num_generation_tokens": num_tokens,
        "max_tokens_param": max_tokens,
        "queued_time_seconds": first - call.enqueued,
        "time_to_first_token_seconds": min(firsts) - call.enqueued,
        "prefill_time_seconds": max(firsts) - first,
        "decode_time_seconds": decode,
        "mean_time_per_output_token_seconds": decode / num_gaps if num_gaps else 0.0,
        "prefill_interrupt_seconds": interrupted,
        "decode_only_itl_seconds": (decode - interrupted) / max(num_gaps, 1),
        "refusals": dict(refusals),
        "num_pauses": sum(len(course.pauses) for course in courses),
    }
    call.measured = {
        TTFT: [when - call.enqueued for when in firsts],
        ITL: [gap for course in begun for gap in course.gaps],
        TPOT: [sum(course.gaps) / len(course.gaps) for course in begun if course.gaps],
        DECODE: [sum(course.gaps) for course in begun],
        GENERATED: [float(len(course.token_times)) for course in begun],
        MAX_TOKENS: [float(max_tokens)],
    }


def spyre_metrics(call: Call, course: Course, num_prompt_tokens: int, chunk_size: int) -> dict[str, Any]:
    """Return what clients made for Spyre are told of an answer, under the names that they know."""
    chunks, decodes = course.chunks, course.decodes
    busy = sum(step.seconds for step in chunks)
    elapsed = chunks[-1].start + chunks[-1].seconds - chunks[0].start
    planned = -(-num_prompt_tokens // chunk_size)
    return {
        "queued_time_s": max(0.0, chunks[0].start - call.submitted),
        "num_chunked_prefills": len(chunks),
        "chunk_prefill_latencies_s": [step.seconds for step in chunks],
        "chunk_prefill_start_times_s": [step.start for step in chunks],
        "decode_latencies_s": [step.seconds for step in decodes],
        "decode_start_times_s": [step.start for step in decodes],
        "tkvs": [step.tkv for step in (*chunks, *decodes)],
        "prefill_elapsed_s": elapsed,
        "prefill_busy_s": busy,
        "prefill_idle_s": max(0.0, elapsed - busy),
        "prefix_cache_hit_pct": max(0, planned - len(chunks)) / planned,
        "left_padding_blocks": [
            max(0, -(-step.tkv // BLOCK_SIZE) - num_blocks_of(num_prompt_tokens + index))
            for index, step in enumerate(decodes, start=1)
        ],
        "pause_latencies_s": [seconds for _, seconds in course.pauses],
        "pause_start_times_s": [start for start, _ in course.pauses],
        "was_missing_blocks": course.refusals[Refusal.BLOCKS] > 0,
    }
