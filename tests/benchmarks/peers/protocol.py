"""What a peer's process says: JSON lines on the pipe that it was given, so that its own prints disturb nothing.

Imported inside the peers' environments: the standard library and numpy only.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def offer(load: Callable[[str, dict[str, Any]], Callable[[list[str]], np.ndarray]]) -> None:
    """Load the model in ``argv[1]`` with the settings in ``argv[2]``, then embed one list of texts a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began = time.perf_counter()
    embed = load(sys.argv[1], json.loads(sys.argv[2]))
    _say(answers, {"ready_seconds": time.perf_counter() - began})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        vectors = embed(asked["texts"])
        seconds = time.perf_counter() - began
        np.save(asked["file"], np.asarray(vectors, dtype=np.float32))
        _say(answers, {"seconds": seconds})


def batches_by_length(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Return indices in batches, longest first, as sentence-transformers sorts them."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def read_tokenizer(folder: str) -> Any:
    """Return the model's tokenizer, cutting at 256 tokens and padding nothing."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


def padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask ``[batch, length]`` of rows of which the first is the longest."""
    ids = np.zeros((len(rows), len(rows[0])), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask


def mean_of_real(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean-pool ``[batch, length, dimensions]`` over real tokens and scale to length one."""
    weights = mask[..., None].astype(np.float32)
    vectors = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _say(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()
