"""The metrics of generation, under the names that vLLM's dashboards use, and our own beside them."""

from dataclasses import dataclass, field

from sendnn_pipeline.generation.counts import Counts
from sendnn_pipeline.generation.state import State
from sendnn_pipeline.observe.measure import Measure

TTFT, ITL = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
TPOT, DECODE = "vllm:request_time_per_output_token_seconds", "vllm:request_decode_time_seconds"
GENERATED, MAX_TOKENS = "vllm:request_generation_tokens", "vllm:request_params_max_tokens"
TOKENS, USAGE = "vllm:generation_tokens", "vllm:kv_cache_usage_perc"
QUERIES, HITS = "vllm:prefix_cache_queries", "vllm:prefix_cache_hits"
PAUSES, RESUMES = "sendnn_pipeline:pauses", "sendnn_pipeline:resumes"
REFUSALS = "sendnn_pipeline:refusals"


def measures_of(max_model_len: int) -> tuple[Measure, ...]:
    """Return the measures of a run.

    Args:
        max_model_len: most tokens of a text.
    """
    tokens = tuple(float(2**power) for power in range(max_model_len.bit_length()))
    return (
        Measure(TTFT, "histogram", "Arrival at the engine to the first token."),
        Measure(ITL, "histogram", "Between two tokens of a text."),
        Measure(TPOT, "histogram", "Mean time between the tokens of a text."),
        Measure(DECODE, "histogram", "First token to the last."),
        Measure(GENERATED, "histogram", "Tokens of an answer.", buckets=tokens),
        Measure(MAX_TOKENS, "histogram", "Most tokens that were asked for.", buckets=tokens),
        Measure(TOKENS, "counter", "Tokens generated."),
        Measure(USAGE, "gauge", "Share of the cache's blocks that requests hold."),
        Measure(QUERIES, "counter", "Tokens of prompts that were looked for in the cache."),
        Measure(HITS, "counter", "Those of them that were found."),
        Measure(PAUSES, "counter", "Times that a request was paused."),
        Measure(RESUMES, "counter", "Times that one went on."),
        Measure(REFUSALS, "counter", "Times that a step went on without a request, by reason.", label="reason"),
    )


@dataclass
class Growth:
    """What the scheduler counted since it was last asked."""

    _seen: Counts = field(default_factory=Counts)

    def measures(self, state: State, generated: int) -> dict[str, float]:
        """Return the measures of a step.

        Args:
            state: of the scheduler.
            generated: tokens of the step.
        """
        now, seen = state.counts, self._seen
        grown = {
            TOKENS: generated,
            QUERIES: now.prompt_tokens - seen.prompt_tokens,
            HITS: now.cached_tokens - seen.cached_tokens,
            PAUSES: now.pauses - seen.pauses,
            RESUMES: now.resumes - seen.resumes,
            **{f"{REFUSALS}/{reason}": now.refusals[reason] - seen.refusals[reason] for reason in now.refusals},
        }
        self._seen = Counts(
            prompt_tokens=now.prompt_tokens,
            cached_tokens=now.cached_tokens,
            pauses=now.pauses,
            resumes=now.resumes,
            refusals=now.refusals.copy(),
        )
        usage = state.pool.num_used / state.pool.num_usable
        return {name: float(value) for name, value in grown.items() if value} | {USAGE: usage}
