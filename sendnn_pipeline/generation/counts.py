"""What a scheduler has counted since it was made: the source of exported metrics."""

from collections import Counter
from dataclasses import dataclass, field

from sendnn_pipeline.generation.refusal import Refusal


@dataclass
class Counts:
    """Totals that only grow."""

    prefill_steps: int = 0
    decode_steps: int = 0
    pauses: int = 0
    """Requests that were paused, each time one was."""
    resumes: int = 0
    """Requests that went on after a pause, each time one did."""
    net_pauses: int = 0
    """Growth of the number of paused requests from step to step: one for another counts nothing."""
    net_resumes: int = 0
    """Shrinking of that number by decode steps, likewise."""
    prompt_tokens: int = 0
    """Tokens of the prompts that were admitted."""
    cached_tokens: int = 0
    """Those of them that were not computed, since other requests had done so."""
    refusals: Counter[Refusal] = field(default_factory=Counter)
    """Requests that a step considered and went on without, by reason."""
