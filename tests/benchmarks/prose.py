"""Prompts of real English prose, cut by the tokens of the model that continues them."""

import pydoc_data.topics
import random
from pathlib import Path

from tokenizers import Tokenizer

from tests.benchmarks.completions import Ask


class Prose:
    """Python's own documentation, cut anywhere at words; the same seed brings the same texts."""

    def __init__(self, model: Path, seed: int = 0) -> None:
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.chooser = random.Random(seed)
        words = " ".join(pydoc_data.topics.topics.values()).split()
        self.words = [word for word in words if any(character.isalnum() for character in word)]

    def text(self, num_tokens: int) -> str:
        """Return a text of at most ``num_tokens`` tokens, and nearly as many."""
        start = self.chooser.randrange(len(self.words) - num_tokens)
        # Every word has at least one token.
        text = " ".join(self.words[start : start + num_tokens])
        ends = self.tokenizer.encode(text).offsets
        return text if len(ends) <= num_tokens else text[: ends[num_tokens][0]].rpartition(" ")[0] or text[:1]

    def asks(self, count: int, prompts: tuple[int, int], answers: tuple[int, int]) -> list[Ask]:
        """Return prompts and lengths of answers, each of any length in its range."""
        return [Ask(self.text(self.chooser.randint(*prompts)), self.chooser.randint(*answers)) for _ in range(count)]
