"""One token from a row of logits."""

import hashlib

import torch

from sendnn_pipeline.generation.messages import Sampling

# Sorting a whole vocabulary takes longer than a layer, and nearly always the nucleus is among so many.
CANDIDATES = 256


def choose(logits: torch.Tensor, sampling: Sampling, position: int) -> int:
    """Return the token that ``logits`` ``[vocabulary]`` give at ``position`` of a text.

    Chance is a function of seed and position alone, so that a seed gives the same text whatever runs beside it.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    ids, kept = _candidates(probabilities, sampling)
    sums = kept.double().cumsum(-1)
    drawn = uniform(sampling.seed, position) * sums[-1]
    index = int(torch.searchsorted(sums, drawn, right=True).clamp_max(len(sums) - 1))
    return index if ids is None else int(ids[index])


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that seed and position decide."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def _candidates(probabilities: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return the ids that may be chosen, None for all in their order, and how probable each is."""
    size = len(probabilities)
    top_k = sampling.top_k if 0 < sampling.top_k < size else size
    if top_k == size and sampling.top_p >= 1 and sampling.min_p <= 0:
        return None, probabilities
    for count in (min(CANDIDATES, size), size):
        sorted_, ids = probabilities.topk(count)
        top = sorted_[:top_k]
        total = top.sum() if top_k < size else 1.0
        # As transformers and vLLM: the largest k, of these the nucleus, of these what is near the best.
        kept = (top.cumsum(-1) - top < sampling.top_p * total) & (top >= sampling.min_p * top[0])
        # Also where the nucleus is smaller than float32 has numbers for.
        kept[0] = True
        if count == size or top_k <= count or not kept[-1]:
            break
    return ids[:top_k][kept], top[kept]
