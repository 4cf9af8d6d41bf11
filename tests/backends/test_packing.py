"""Products over weights in oneDNN's own layout: the graph as it is changed, against the module as it was."""

import torch
from torch import nn

from sendnn_pipeline.backends.packing import pack_products
from sendnn_pipeline.backends.weight_copies import WeightCopies


class Products(nn.Module):
    """Products of one input, with and without bias, of another, and over a weight that is read in another way."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, size, bias=False) for size in (6, 2, 4))
        self.biased, self.out = nn.Linear(8, 5), nn.Linear(6, 8, bias=False)
        self.embedding = nn.Parameter(torch.randn(3, 8))

    def forward(self, hidden):
        out = self.out(self.query(hidden))
        others = self.key(hidden), self.value(hidden), self.biased(hidden)
        return (out, *others, nn.functional.linear(hidden, self.embedding), self.embedding[0])


def test_products_of_one_input_become_one_and_give_the_same():
    module, hidden = Products().eval(), torch.randn(3, 8)
    with torch.no_grad():
        wanted = module(hidden)
        exported = torch.export.export(module, (hidden,), strict=False)
        read = pack_products(exported)
        found = exported.module()(hidden)
    alone = {name: (name,) for name in ("biased.weight", "out.weight")}
    assert read == {"query.weight": ("query.weight", "key.weight", "value.weight"), **alone}
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_copy_is_shared_and_lives_as_long_as_its_first_weight():
    copies, first, second = WeightCopies(), torch.randn(4, 8), torch.randn(2, 8)
    both = copies.packed([first, second])
    assert copies.packed([first, second]) is both and copies.packed([first]) is not both
    hidden = torch.randn(3, 8)
    product = torch.ops.mkldnn._linear_pointwise(hidden, both, None, "none", [], "")
    torch.testing.assert_close(product, hidden @ torch.cat([first, second]).T)
    del first
    assert len(copies._copies) == 0
