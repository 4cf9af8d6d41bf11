"""From tokens to text as they come: what is out is never taken back."""

from collections.abc import Callable, Sequence

# Tokens before the first one that say how it is written: with a blank before it, or without.
CONTEXT_TOKENS = 6
# What a letter shows as that is not whole yet; some tokenizers show all bytes before it so, too.
UNKNOWN = "\ufffd"
# After so many tokens that end no letter they are noise.
MAX_HELD = 64


class Detokenizer:
    """Decodes a window of the last tokens again with each new one: most tokenizers write a token by its neighbours.

    Args:
        decode: gives the text of a few tokens.
        before: the tokens that it goes on from; only the last ones are read.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int]) -> None:
        self._decode = decode
        self._window = list(before[-CONTEXT_TOKENS:])
        self._num_context = len(self._window)
        self._num_out = len(decode(self._window).rstrip(UNKNOWN))
        """Characters of the window's text that are out."""

    def feed(self, token_id: int) -> str:
        """Return the text that a token adds, as far as no later token can change it."""
        self._window.append(token_id)
        text = self._decode(self._window)
        is_noise = len(self._window) - self._num_context > MAX_HELD
        sure = text if is_noise else text.rstrip(UNKNOWN)
        added = sure[self._num_out :]
        self._num_out = max(self._num_out, len(sure))
        if len(sure) == len(text) and added:
            self._move()
        elif len(sure) == len(text) == self._num_out:
            # It has no text, such as a special token that is skipped: it is no neighbour.
            self._window.pop()
        return added

    def finish(self) -> str:
        """Return what waits for tokens that do not come."""
        return self._decode(self._window)[self._num_out :]

    def _move(self) -> None:
        """Make context of what is out."""
        self._window = self._window[self._num_context :]
        self._num_context = len(self._window)
        self._num_out = len(self._decode(self._window))
