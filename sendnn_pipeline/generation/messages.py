"""What a request of generation and its answer hold between edge and engine."""

import msgspec


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. The edge has checked every value; what is unset changes nothing."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is all."""
    min_p: float = 0.0
    seed: int = 0
    """With the position of a token, all that chance depends on."""
    repetition_penalty: float = 1.0
    """Of tokens in the prompt or the answer."""
    presence_penalty: float = 0.0
    """Of tokens in the answer."""
    frequency_penalty: float = 0.0
    """Of tokens in the answer, for each time."""
    logit_bias: dict[int, float] = {}
    allowed_token_ids: list[int] = []
    """Empty allows all."""
    bad_words: list[list[int]] = []
    """Sequences of tokens that must not come about."""
    stop_token_ids: list[int] = []
    """Any of them ends the answer."""
    min_tokens: int = 0
    """Until so many there are, no token of ``stop_token_ids`` comes."""
    logprobs: int = -1
    """Alternatives to report beside each chosen token; -1 reports nothing."""
    prompt_logprobs: int = -1
    """The same for each token of the prompt."""
    grammar: str = ""
    """That the answer follows, as llguidance writes it; empty where it is free."""


class PromptImage(msgspec.Struct, frozen=True):
    """An image of a prompt."""

    data: bytes
    """Of its file."""
    digest: bytes
    """Of its pixels and its size."""
    num_rows: int
    """Tokens of the prompt in whose places it is read; those of all images follow one another."""


class GenerationRequest(msgspec.Struct, frozen=True):
    """Prompts to continue, each ``n`` times: sequence ``i * n + j`` is the ``j``-th answer to prompt ``i``."""

    prompts: list[list[int]]
    max_tokens: list[int]
    """Of each prompt."""
    sampling: Sampling
    n: int = 1
    salt: bytes = b""
    """Sets its prefixes apart from equal ones of another salt."""
    images: list[PromptImage] = []
    """Of its only prompt, in their order."""


class TokenLogprobs(msgspec.Struct, frozen=True):
    """How likely a token was, and what else was."""

    token_id: int
    logprob: float
    rank: int
    """1 is the most likely."""
    top: list[tuple[int, float]]
    """The most likely ones, best first."""


class StepTime(msgspec.Struct, frozen=True, array_like=True):
    """A step that computed something of a sequence. Times are seconds of the monotonic clock."""

    start: float
    seconds: float
    tkv: int
    """Tokens of the longest row in the step."""


class GenerationOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """New tokens of one sequence."""

    sequence: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs] = []
    """Of each new token, where they are asked for."""
    finish: str = ""
    """``stop`` or ``length`` with the last of the sequence."""
    cached_tokens: int = 0
    """Tokens of the prompt that were not computed again; with the first part."""
    prompt_logprobs: list[TokenLogprobs] = []
    """Of each token of the prompt but its first; with the first part, where they are asked for."""
    steps: list[StepTime] = []
    """That led to these tokens: with the first part the chunks of the prompt, later a decode each."""
    pauses: list[tuple[float, float]] = []
    """Starts and seconds of those that ended before these tokens."""
    interrupted_seconds: float = 0.0
    """Spent on the prompts of others since the last part."""
    refusals: dict[str, int] = {}
    """With the first part: steps that went on without the request, by reason."""
