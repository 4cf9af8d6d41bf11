"""How likely tokens were."""

from collections.abc import Sequence

import torch

from sendnn_pipeline.generation.messages import TokenLogprobs

# Stands for minus infinity, which JSON does not have.
LOWEST = -9999.0


def token_logprobs(logits: torch.Tensor, token_ids: Sequence[int], num_top: int) -> list[TokenLogprobs]:
    """Return log probabilities by the model's own logits, before anything that a request asks changes them.

    Args:
        logits: ``[rows, vocabulary]`` in float32.
        token_ids: the token of each row.
        num_top: alternatives to report.
    """
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(token_ids)[:, None])
    ranks = (logprobs > chosen).sum(-1) + 1
    values, ids = logprobs.topk(min(num_top, logprobs.shape[1]), -1)
    rows = zip(token_ids, chosen[:, 0].tolist(), ranks.tolist(), ids.tolist(), values.tolist(), strict=True)
    return [
        TokenLogprobs(token, max(logprob, LOWEST), rank, [(i, max(v, LOWEST)) for i, v in zip(top, tops, strict=True)])
        for token, logprob, rank, top, tops in rows
    ]
