"""How much a grammar may take."""

import resource
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

LARK_OR_GBNF = "lark_or_gbnf"
MAX_BYTES = 2**31
# Of CPU time: to read a grammar, and to say which tokens may come next.
OPEN_SECONDS, STEP_SECONDS = 5.0, 2.0
TOO_MUCH = f"the grammar takes more than {OPEN_SECONDS:.0f} s or {MAX_BYTES // 2**30} GiB"
# In KiB of memory a state of the library's lexer takes one or two.
MAX_STATES, MAX_GRAMMAR_SIZE = 20_000, 200_000


def limit_memory() -> None:
    """Have this process end where it takes too much."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def make_matcher(tokenizer: "LLTokenizer", grammar: str) -> "LLMatcher":
    """Return what follows a text by a grammar; one that is wrong says so by ``get_error``.

    Args:
        tokenizer: of the texts.
        grammar: a JSON object in llguidance's own form, or with ``LARK_OR_GBNF`` alone.

    Raises:
        ValueError: it is GBNF, and wrong.
    """
    from llguidance import LLMatcher, LLParserLimits, grammar_from

    document = msgspec.json.decode(grammar)
    if LARK_OR_GBNF in document:
        grammar = grammar_from("grammar", document[LARK_OR_GBNF])
    limits = LLParserLimits(
        max_lexer_states=MAX_STATES,
        max_grammar_size=MAX_GRAMMAR_SIZE,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


def one_line(error: str) -> str:
    """Return what the library says of a grammar without its drawings."""
    return " ".join(error.replace("<non-verbose/>", "").split())[:300]
