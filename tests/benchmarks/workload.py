"""The texts that benchmarks embed: real English prose, lengths lognormal with a median of about 40 tokens, 5 to 256."""

import pydoc_data.topics
import random

MEDIAN_WORDS, SIGMA = 27, 0.85
LEAST_WORDS, MOST_WORDS = 3, 180


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Return ``count`` passages cut from Python's own documentation."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    words = [word for word in words if any(character.isalnum() for character in word)]
    chooser = random.Random(seed)
    texts = []
    for _ in range(count):
        length = round(MEDIAN_WORDS * chooser.lognormvariate(0.0, SIGMA))
        length = min(MOST_WORDS, max(LEAST_WORDS, length))
        start = chooser.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts
