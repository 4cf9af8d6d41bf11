"""Architectures in which padding reaches the text, mask or not, are refused; the others are what they are alone."""

from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.pooling.model import PooledModel
from sendnn_pipeline.pooling.padding_check import check_padding

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
WELL = {"bert": {}, "mpnet": {}, "deberta-v2": {**RELATIVE, "conv_kernel_size": 3, "conv_act": "gelu"}}
ILL = {"fnet": {}, "convbert": {"embedding_size": 16}, "yoso": {}}


def made(kind, pooling, options):
    torch.manual_seed(1)
    model = AutoModel.from_config(CONFIG_MAPPING[kind](**SIZES, **options)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    facts = SimpleNamespace(folder="there", model_type=kind, vocab_size=20, pad_token_id=1)
    return PooledModel(model, pooling), None, facts


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", WELL)
def test_what_pads_changes_nothing(kind, pooling):
    module, third, facts = made(kind, pooling, WELL[kind])
    check_padding(module, third, facts, "float32")
    check_padding(module.bfloat16(), third, facts, "bfloat16")


@pytest.mark.parametrize("kind", ILL)
def test_what_mixes_it_in_is_refused_by_name(kind):
    module, third, facts = made(kind, "mean", ILL[kind])
    with pytest.raises(ModelError, match=f"there: in models of the type {kind} what pads a text changes its answer"):
        check_padding(module, third, facts, "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_logit_that_is_near_zero_is_not_far_off_because_of_it(dtype):
    class Logit(torch.nn.Module):
        """A sum of rounded numbers, which another length adds up in another order."""

        def forward(self, ids, mask):
            return (torch.tensor([[1e-7 * ids.shape[1]]]),)

    facts = SimpleNamespace(folder="there", model_type="bert", vocab_size=20, pad_token_id=1)
    check_padding(Logit(), None, facts, dtype)
