"""From hidden states to one vector a text."""

import torch


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce hidden states to one float32 vector a row, over the tokens of the mask only.

    Args:
        hidden: ``[batch, length, dimensions]``, padded on the right.
        mask: ``[batch, length]``, 1 on tokens that count; every row has one.
        pooling: ``mean``, ``cls`` (first token), ``last`` (last token), ``max``, ``mean_sqrt_len`` (the sum over the
            root of the number of tokens), ``weightedmean`` (the later the heavier), or several joined by ``+``.

    Returns:
        ``[batch, dimensions]`` in float32, so many times as there are poolings.
    """
    vectors = [_pool(hidden.float(), mask, mode) for mode in pooling.split("+")]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)


def _pool(hidden: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    if mode == "cls":
        return _token(hidden, mask.argmax(dim=1))
    if mode == "last":
        return last_token(hidden, mask)
    if mode == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)
    weights = mask.unsqueeze(-1).float()
    if mode == "weightedmean":
        # Tokens that do not count keep their numbers: where a prompt is left out, the text's first has more than one.
        weights = weights * torch.arange(1, hidden.shape[1] + 1).view(1, -1, 1)
    total = weights.sum(dim=1)
    return (hidden * weights).sum(dim=1) / (total.sqrt() if mode == "mean_sqrt_len" else total)


def last_token(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of each row's last token that counts, ``[batch, dimensions]``."""
    return _token(hidden, (mask * torch.arange(mask.shape[1])).amax(dim=1))


def _token(hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the hidden state at an index of each row, ``[batch, dimensions]``."""
    return hidden.gather(1, index.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])).squeeze(1)
