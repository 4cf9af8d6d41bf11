"""The process that says which tokens may come next. It reads messages until its pipe is closed."""

import ctypes
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sendnn_pipeline.generation.grammar.limits import limit_memory, make_matcher, one_line
from sendnn_pipeline.generation.grammar.messages import NO_TEXT, Begin, End, Mask, ToWorker

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Compiled grammars that are cached for the next request with the same one.
MAX_KNOWN = 64
PR_SET_PDEATHSIG = 1
NO_VOCABULARY = "no grammar goes with this model's tokenizer"


class Vocabulary(msgspec.Struct, frozen=True):
    """The tokens of a model."""

    file: str
    """``tokenizer.json``."""
    size: int
    """Of its logits."""
    end_ids: list[int]
    """That may come where a grammar is complete."""


class Texts:
    """Texts that follow grammars."""

    def __init__(self, tokenizer: "LLTokenizer") -> None:
        self._tokenizer = tokenizer
        self._known: OrderedDict[str, LLMatcher] = OrderedDict()
        self._matchers: dict[int, LLMatcher] = {}

    def take(self, message: ToWorker) -> Mask | None:
        """Do what a message asks, and return what may come next."""
        if isinstance(message, End):
            self._matchers.pop(message.text_id, None)
            return None
        try:
            if isinstance(message, Begin):
                self._matchers[message.text_id] = self._begin(message.grammar, message.token_ids)
            elif message.text_id in self._matchers:
                self._matchers[message.text_id].consume_token(message.token_id)
        except ValueError as error:
            return Mask(message.text_id, b"", error=one_line(str(error)))
        return self._mask(message.text_id)

    def _begin(self, grammar: str, token_ids: Sequence[int]) -> "LLMatcher":
        if grammar not in self._known:
            self._known[grammar] = make_matcher(self._tokenizer, grammar)
        self._known.move_to_end(grammar)
        matcher = self._known[grammar].deep_copy()
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        matcher.consume_tokens(list(token_ids))
        return matcher

    def _mask(self, text_id: int) -> Mask:
        matcher = self._matchers.get(text_id)
        if matcher is None:
            return Mask(text_id, b"", error="the text did not begin")
        bits = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            return Mask(text_id, b"", error=one_line(matcher.get_error()))
        return Mask(text_id, bits, matcher.is_stopped())


def open_tokenizer(vocabulary: Vocabulary) -> "LLTokenizer":
    """Return the tokens of a model as the library knows them.

    Raises:
        ValueError: it does not know such a tokenizer.
    """
    from llguidance import LLTokenizer

    text = Path(vocabulary.file).read_text(encoding="utf-8")
    try:
        return LLTokenizer(text, n_vocab=vocabulary.size, eos_token=vocabulary.end_ids)
    except ValueError:
        # Of a tokenizer that knows tokens past the logits, which never come, the size is its own.
        return LLTokenizer(text, eos_token=vocabulary.end_ids)


def end_with_parent() -> None:
    """Have this process killed with the thread that started it: an endless grammar hears of no closed pipe."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Answer at the descriptor that the command line names, first whether the tokenizer is of use."""
    end_with_parent()
    connection = Connection(int(sys.argv[1]))
    limit_memory()
    try:
        texts = Texts(open_tokenizer(msgspec.json.decode(sys.argv[2], type=Vocabulary)))
    except ValueError as error:
        unusable = Mask(NO_TEXT, b"", error=f"{NO_VOCABULARY}: {one_line(str(error))}")
        connection.send_bytes(msgspec.msgpack.encode(unusable))
        return
    connection.send_bytes(msgspec.msgpack.encode(Mask(NO_TEXT, b"")))
    decoder = msgspec.msgpack.Decoder(ToWorker)
    while True:
        try:
            message = decoder.decode(connection.recv_bytes())
        except EOFError:
            return
        mask = texts.take(message)
        if mask is not None:
            connection.send_bytes(msgspec.msgpack.encode(mask))


if __name__ == "__main__":
    main()
