"""A request from the moment it waits until it has its last token."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sendnn_pipeline.generation.content import Content
from sendnn_pipeline.generation.refusal import Refusal
from sendnn_pipeline.generation.rules import BLOCK_SIZE


class Stage(StrEnum):
    """How far a request has come."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    PAUSED = "paused"
    FINISHED = "finished"


class Finish(StrEnum):
    """Why a request has ended."""

    LENGTH = "length"
    """It has as many tokens as it asked for."""
    STOP = "stop"
    """The engine found a stop token or string."""
    CANCELLED = "cancelled"


@dataclass(kw_only=True, slots=True, eq=False)
class Request:
    """What the scheduler knows of a request. Only the scheduler changes it; others may read."""

    request_id: int
    token_ids: list[int]
    """The prompt, then what was generated."""
    num_prompt_tokens: int
    max_tokens: int
    """Most tokens to generate."""
    chain: list[Content]
    """Contents of its full blocks behind a root; the root alone where prefixes are not shared."""
    marks: Mapping[int, int] = field(default_factory=dict)
    """What stands for tokens in ``chain``, by position, where an id does not say all."""
    is_ready: bool = True
    """False while something is made that it needs."""
    stage: Stage = Stage.WAITING
    finish: Finish | None = None
    computed_tokens: int = 0
    """Tokens whose keys and values are in its blocks."""
    cached_tokens: int = 0
    """Tokens of the prompt that other requests had computed, and that were not computed again."""
    num_shared_blocks: int = 0
    """Blocks at the beginning of its table that other requests had computed; never written."""
    left_padding: int = 0
    """Tokens of padding before the prompt during prefill."""
    blocks: list[int] = field(default_factory=list)
    block_table: tuple[int, ...] = ()
    """The same blocks, as steps carry them."""
    padded_table: tuple[int, ...] = ()
    """The same as in the last rectangular decode; empty where blocks have changed since."""
    num_reserved_blocks: int = 0
    """Blocks it may still come to need."""
    paused_steps: int = 0
    """Decode steps since it was paused."""
    num_pauses: int = 0
    num_overtakes: int = 0
    """Requests that were admitted while it was refused for its volume."""
    refusal: Refusal | None = None
    """Why it did not run in the last step that considered it; None where it ran."""
    refusals: Counter[Refusal] = field(default_factory=Counter)
    """Steps that went on without it, by reason."""
    seen_version: int = -1
    """The pool's version when blocks were last too few for it."""

    @property
    def num_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def max_total_tokens(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return self.num_prompt_tokens + self.max_tokens

    @property
    def prefix_chain(self) -> list[Content]:
        """What the cache may give it: full blocks of the prompt, but never its last token, which must be computed."""
        return self.chain[1 : 1 + (self.num_prompt_tokens - 1) // BLOCK_SIZE]

    def refuse(self, reason: Refusal) -> None:
        """Note that a step goes on without it."""
        self.refusal = reason
        self.refusals[reason] += 1
