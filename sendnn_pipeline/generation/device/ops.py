"""Paged attention as a device knows it: two custom ops, and what they compute on a CPU.

Their names and arguments are those of ``fms.utils.spyre.paged``, which is taken where it is installed.
"""

import importlib
import importlib.util
from typing import Any

import torch

STORE, COMPUTE = "spyre::paged_attn_store", "spyre::paged_attn_compute"
FOUNDATION = "fms.utils.spyre.paged"


def register_ops() -> Any:
    """Register the ops, unless that is done, and return them: ``paged_attn_store`` and ``paged_attn_compute``."""
    if importlib.util.find_spec(FOUNDATION.partition(".")[0]) is not None:
        importlib.import_module(FOUNDATION)
    if not hasattr(torch.ops.spyre, STORE.partition("::")[2]):
        torch.library.custom_op(STORE, _store, mutates_args=()).register_fake(_store_like)
        torch.library.custom_op(COMPUTE, _compute, mutates_args=()).register_fake(_compute_like)
    return torch.ops.spyre


def _store(
    key: torch.Tensor,
    value: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cache with new keys and values in it.

    Args:
        key: ``[rows, tokens, key heads, size]``; values alike.
        value: of each key.
        k_cache: ``[blocks, block size, key heads, size]``; that of values alike.
        v_cache: of values.
        slot_mapping: ``[rows, tokens]``: block times block size plus offset.
    """
    slots, written = slot_mapping.flatten(), []
    for cache, new in ((k_cache, key), (v_cache, value)):
        copy = cache.clone()
        copy.view(-1, *cache.shape[2:])[slots] = new.flatten(0, 1).to(cache.dtype)
        written.append(copy)
    return written[0], written[1]


def _store_like(
    key: torch.Tensor,
    value: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(k_cache), torch.empty_like(v_cache)


def _compute(  # noqa: PLR0917
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    scale: float,
    current_tkv_mask: torch.Tensor,
    left_padded_prompt_mask: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    """Attend to the cache, each query to the tokens up to its own.

    Args:
        query: ``[rows, tokens, heads, size]``, the last tokens of each row.
        k_cache: ``[blocks, block size, key heads, size]``.
        v_cache: of values.
        scale: of the scores.
        current_tkv_mask: ``[rows]``, tokens of each row with its padding.
        left_padded_prompt_mask: ``[rows]``, how many of those are padding.
        block_table: ``[rows, blocks]``.

    Returns:
        As ``query``; 0 where it is padding itself.
    """
    result, (tokens, heads) = torch.zeros_like(query), query.shape[1:3]
    repeats = heads // k_cache.shape[2]
    for row in range(query.shape[0]):
        end, first = int(current_tkv_mask[row]), int(left_padded_prompt_mask[row])
        keys, values = (
            cache[block_table[row]].flatten(0, 1)[first:end].float().repeat_interleave(repeats, 1)
            for cache in (k_cache, v_cache)
        )
        own = torch.arange(end - tokens, end)
        real = own >= first
        seen = torch.arange(first, end)[None] <= own[real][:, None]
        scores = torch.einsum("qhd,khd->hqk", query[row, real].float(), keys) * scale
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        result[row, real] = torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype)
    return result


def _compute_like(  # noqa: PLR0917
    query: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    scale: float,
    current_tkv_mask: torch.Tensor,
    left_padded_prompt_mask: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    return torch.empty_like(query)
