"""Products of one row as sums: the graph as it is changed, against the module as it was."""

import pytest
import torch
from torch import nn

from sendnn_pipeline.backends.single_rows import LINEAR, write_out_products


class Products(nn.Module):
    """One after the other, with and without bias, in the shapes that layers and heads have."""

    def __init__(self, dtype):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6, dtype=dtype), nn.Linear(6, 3, bias=False, dtype=dtype)

    def forward(self, hidden):
        return self.second(self.first(hidden).relu()), self.first(hidden[0])


@pytest.mark.parametrize(
    ("rows", "dtype", "left"),
    [(1, torch.bfloat16, 0), (1, torch.float16, 0), (2, torch.bfloat16, 3), (1, torch.float32, 3)],
)
def test_products_of_one_row_become_sums_and_give_the_same(rows, dtype, left):
    module, hidden = Products(dtype).eval(), torch.randn(1, rows, 8, dtype=dtype)
    with torch.no_grad():
        wanted = module(hidden)
        exported = torch.export.export(module, (hidden,), strict=False)
        write_out_products(exported)
        found = exported.module()(hidden)
    assert sum(node.target == LINEAR for node in exported.graph.nodes) == left
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)
