"""Attention whose scores are written out between two products, where torch's fused attention multiplies in float32."""

import torch

# A score is written once as itself and once as a weight, both in bfloat16.
BYTES_OF_SCORE = 4
# What a step may take for them; a longer context is left to the fused attention, which has a part of them at a time.
MAX_BYTES = 512 * 2**20
# A block's: there are as many or more in every table.
FIRST_TOKENS = 64


def writes_scores(dtype: str, num_scores: int) -> bool:
    """Return whether it is the faster one, and its scores fit.

    Fused attention multiplies bfloat16 as such where the CPU has tiles (AMX). Where it has vectors of bfloat16 alone,
    the products are MKL's, which on other makers' CPUs are float32's: a fifth of what oneDNN's reach.

    Args:
        dtype: of the model.
        num_scores: of the largest step of one layer.
    """
    vectors = bool(torch.cpu._is_avx512_bf16_supported()) and not torch.cpu._is_amx_tile_supported()
    return dtype == "bfloat16" and vectors and num_scores * BYTES_OF_SCORE <= MAX_BYTES


def attend_by_scores(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Attend with all query heads of a key head as rows of one product.

    What all keys have in common adds the same to all scores of a query, which changes no weight, and is left out:
    a score is rounded, and a smaller one by less.

    Args:
        query: ``[prompts, queries, heads, size]``.
        keys: ``[prompts, key heads, size, tokens]``.
        values: ``[prompts, key heads, tokens, size]``.
        seen: ``[prompts, queries, tokens]``, of which each query sees one or more.
        scaling: of the scores; None is one over the root of ``size``.

    Returns:
        ``[prompts, key heads, queries, heads of each, size]``.
    """
    prompts, queries, heads, size = query.shape
    num_keys, tokens = keys.shape[1], keys.shape[3]
    group = heads // num_keys
    # Of the first tokens alone, which tell it as well; where the last query sees none of them, nothing is left out.
    first, mine = keys[..., :FIRST_TOKENS], seen[:, -1, :FIRST_TOKENS].to(torch.float32)
    common = (first * mine[:, None, None]).sum(-1, keepdim=True) / mine.sum(-1).clamp(min=1)[:, None, None, None]
    apart = (keys - common).to(keys.dtype).flatten(0, 1)
    scaled = query * (size**-0.5 if scaling is None else scaling)
    rows = scaled.view(prompts, queries, num_keys, group * size).transpose(1, 2).contiguous()
    # A view of strides, else a compiler that cannot tell that it is one copies it number by number.
    rows = rows.as_strided((prompts * num_keys, queries * group, size), (queries * group * size, size, 1))
    scores = torch.bmm(rows, apart)
    scores = scores.view(prompts, num_keys, queries, group, tokens)
    scores = torch.where(seen[:, None, :, None], scores, -torch.inf).float()
    weights = torch.exp(scores - scores.amax(-1, keepdim=True)).to(query.dtype)
    whole = weights.float().sum(-1, keepdim=True)
    found = torch.bmm(weights.view(prompts * num_keys, queries * group, tokens), values.flatten(0, 1))
    found = found.view(prompts, num_keys, queries, group, size) / whole
    return found.to(query.dtype)
