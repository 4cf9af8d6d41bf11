"""From hidden states to one vector a text."""

import torch


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce hidden states to one float32 vector a row, over real tokens only.

    Args:
        hidden: ``[batch, length, dimensions]``, padded on the right.
        mask: ``[batch, length]``, 1 on real tokens; every row has one.
        pooling: ``mean``, ``cls`` (first token) or ``last`` (last real token).

    Returns:
        ``[batch, dimensions]`` in float32.
    """
    hidden = hidden.float()
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return last_token(hidden, mask)
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def last_token(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of each row's last real token, ``[batch, dimensions]``."""
    last = (mask.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, last).squeeze(1)
