"""What deciding and accounting cost a step of generation: 64 requests that decode, 10,000 blocks.

``python -m tests.benchmarks.scheduling`` prints medians and 95th percentiles in microseconds.
"""

import time

from sendnn_pipeline.generation.rules import Rules, sendnn_rules
from sendnn_pipeline.generation.scheduler import Scheduler
from sendnn_pipeline.generation.steps import DecodeStep

LIMITS = {"chunk_size": 512, "max_num_seqs": 64, "max_model_len": 32768, "num_blocks": 10_001}
MAX_TOKENS = 1500
STEPS = 500


def microseconds(seconds: list[float]) -> str:
    """Return median and 95th percentile."""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2] * 1e6:5.0f} (p95 {ordered[len(ordered) * 95 // 100] * 1e6:5.0f})"


def measure(name: str, rules: Rules, num_prompt_tokens: int, num_waiting: int = 0) -> None:
    """Bring 64 requests to decode, and time the steps that follow; others wait for a slot meanwhile."""
    scheduler = Scheduler(rules)
    began = time.perf_counter()
    for index in range(64 + num_waiting):
        scheduler.add(index, range(index * 10_000, index * 10_000 + num_prompt_tokens), MAX_TOKENS)
    added = (time.perf_counter() - began) / (64 + num_waiting)
    prefills: list[float] = []
    decided: list[float] = []
    accounted: list[float] = []
    while len(decided) < STEPS:
        began = time.perf_counter()
        step = scheduler.next_step()
        decided_at = time.perf_counter()
        assert step is not None
        scheduler.finish_step(step, [7] * len(step.sampled))
        if not isinstance(step, DecodeStep):
            prefills.append(decided_at - began)
        elif not scheduler.state.prefilling and len(scheduler.state.waiting) == num_waiting:
            decided.append(decided_at - began)
            accounted.append(time.perf_counter() - decided_at)
    used = scheduler.state.pool.num_used
    print(
        f"{name:<36} decode {microseconds(decided)}  prefill {microseconds(prefills)}  "
        f"account {microseconds(accounted)}  add {added * 1e6:.0f}; {used} blocks used"
    )


def main() -> None:
    """Print a line for each kind of device and load."""
    measure("sendnn, 4,000 tokens each", sendnn_rules(**LIMITS), 4000)
    measure("sendnn, with a limit of the volume", sendnn_rules(**LIMITS, max_batch_tkv=524_288), 4000)
    measure("sendnn, half of them paused", sendnn_rules(**LIMITS, max_batch_tkv=150_000), 4000)
    measure("sendnn, 1,000 waiting", sendnn_rules(**LIMITS), 4000, num_waiting=1000)
    measure("CPU, 4,000 tokens each", Rules(**LIMITS, max_prefill_tokens=2048), 4000)


if __name__ == "__main__":
    main()
