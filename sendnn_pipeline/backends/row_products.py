"""A product of one row as sums, by what its weight is read from: what a compiler makes loops of."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from sendnn_pipeline.programs.quantized import GROUP_SIZE, OFFSETS, Q4, Q8, SCALES

Values = tuple[torch.Tensor, ...]
HALF_GROUP = GROUP_SIZE // 2


class RowProduct(NamedTuple):
    """A product of one row, its sums in float32."""

    prepare: Callable[[torch.Tensor], Values]
    """Makes of the row what all products of it read."""
    compute: Callable[[Values, Values], torch.Tensor]
    """Makes ``[outputs]`` of that, and of the parts of the weight."""


def _row(row: torch.Tensor) -> Values:
    return (_stored(row.flatten().float()),)


def _product(row: Values, weight: Values) -> torch.Tensor:
    return (weight[0].float() * row[0]).sum(-1)


def _halves_and_sums(row: torch.Tensor) -> Values:
    groups = row.flatten().float().view(-1, 2, HALF_GROUP)
    # The upper bits of a byte stay where they are, as to shift bytes takes several instructions: these count for less.
    return _stored(groups[:, 0].contiguous()), _stored(groups[:, 1] / 16), _stored(groups.sum((1, 2)))


def _product_of_q4(row: Values, weight: Values) -> torch.Tensor:
    lower, upper, sums = row
    numbers, scales, offsets = weight
    # The inner loop is bound by its instructions: without offsets in it a layer takes four fifths of the time.
    scaled = scales[:, :, None] * ((numbers & 15).float() * lower + (numbers & 240).float() * upper)
    return scaled.sum((1, 2)) + (offsets * sums[:, None]).sum(0)


def _halves(row: torch.Tensor) -> Values:
    groups = _stored(row.flatten().float()).view(-1, 2, HALF_GROUP)
    return groups[:, 0], groups[:, 1]


def _product_of_q8(row: Values, weight: Values) -> torch.Tensor:
    lower, upper = row
    numbers, scales = weight
    # By halves, each of which is a vector.
    halves = numbers.view(*scales.shape, 2, HALF_GROUP).float()
    return (scales[:, :, None] * (halves[:, :, 0] * lower + halves[:, :, 1] * upper)).sum((1, 2))


def _stored(value: torch.Tensor) -> torch.Tensor:
    """Return a view of strides, which is in memory: else every output makes the row again."""
    return value.as_strided(value.shape, value.stride())


PRODUCTS = {
    (Q4, SCALES, OFFSETS): RowProduct(_halves_and_sums, _product_of_q4),
    (Q8, SCALES): RowProduct(_halves, _product_of_q8),
    (): RowProduct(_row, _product),
}
"""By the parts of a quantized weight; the last is of a weight itself."""
