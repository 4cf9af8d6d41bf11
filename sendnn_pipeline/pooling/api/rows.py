"""The rows of numbers that answer a request, and what is made of them. No torch."""

import base64
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.pooling.config import pooling_config
from sendnn_pipeline.pooling.messages import PoolingOutput

Rows = npt.NDArray[np.float32]
EncodingFormat = Literal["float", "base64"]


async def gather_rows(call: Call) -> Rows:
    """Return what the engine gave, ``[items, size]``, in the order of the request.

    Raises:
        RequestError: the engine failed on it.
    """
    rows: Rows | None = None
    async for payload in call:
        output = msgspec.msgpack.decode(payload, type=PoolingOutput)
        if rows is None:
            rows = np.empty((call.work.num_items, output.size), np.float32)
        rows[output.indices] = np.frombuffer(output.data, dtype="<f4").reshape(-1, output.size)
    assert rows is not None
    return rows


async def gather_vectors(
    front: Frontend, call: Call, dimensions: int | None = None, normalize: bool | None = None
) -> Rows:
    """Return the vectors of texts ``[items, size]``.

    Args:
        front: the run.
        call: that the engine answers.
        dimensions: how many of each are asked for; None is all.
        normalize: whether each is of length one; None where ``engine.normalize`` says so, and where they are cut.

    Raises:
        RequestError: the engine failed on it.
    """
    vectors = await gather_rows(call)
    if normalize is None:
        cuts = dimensions is not None and dimensions < vectors.shape[1]
        normalize = cuts or pooling_config(front.run.config)[0].normalize
    cut = vectors[:, :dimensions]
    return unit(cut) if normalize else np.ascontiguousarray(cut)


def unit(vectors: Rows) -> Rows:
    """Scale every row to length one."""
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled: Rows = vectors / norms
    return scaled


def encode_rows(rows: Rows, encoding_format: EncodingFormat) -> list[Any]:
    """Return each row as it is written: numbers, or little-endian float32 in base64."""
    if encoding_format == "float":
        return list(np.ascontiguousarray(rows))
    return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii") for row in rows]


def apply_activation(logits: Rows, activation: str) -> Rows:
    """Turn logits ``[rows, labels]`` into scores: ``identity``, ``sigmoid`` or ``softmax``."""
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        # Without overflow at either end.
        small = np.exp(-np.abs(logits))
        sigmoid: Rows = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
        return sigmoid
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: Rows = powers / powers.sum(axis=1, keepdims=True)
    return softmax
