"""Every family of classifiers, padded and batched by us, against transformers' own output one at a time."""

import asyncio
import json
import shutil

import numpy as np
import pytest
import torch

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.frontend.truncation import Truncation
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.models.loader import load_classifier
from sendnn_pipeline.pooling.facts import read_pooling_facts
from sendnn_pipeline.pooling.model import ClassifierModel
from sendnn_pipeline.pooling.runner import PoolingRunner, token_type_ids
from sendnn_pipeline.pooling.shapes import pool_program
from tests.classifiers import KINDS, PROSE, make_classifier, reference_logits

QUERY = "what is an attribute reference?"
DOCUMENTS = ["a primary followed by a name", "x", PROSE[3][:120], PROSE[9][40:100], PROSE[11][:60]]


def logits_of(folder, items, offsets=()):
    facts = read_model_facts(folder)
    program = pool_program(96, 8, 1, 1)
    model = ClassifierModel(load_classifier(folder, "float32"))
    third = token_type_ids if read_pooling_facts(facts).token_type_ids else None
    runner = PoolingRunner({program: model}, facts.pad_token_id, third)
    rows, finite = runner.run(program, items, offsets)
    assert all(finite)
    return rows.double().numpy()


def paired(folder, firsts, seconds, truncation=None):
    return asyncio.run(load_tokenizer(folder).encode_pairs(firsts, seconds, truncation or Truncation()))


@pytest.mark.parametrize("kind", KINDS)
def test_pairs(kind, tmp_path):
    make_classifier(tmp_path, kind, 1)
    items, offsets = paired(tmp_path, [QUERY], DOCUMENTS)
    expected = reference_logits(tmp_path, [(QUERY, document) for document in DOCUMENTS])
    assert np.abs(logits_of(tmp_path, items, offsets) - expected).max() < 1e-4
    assert np.ptp(expected) > 1e-3, "scores that are all alike prove nothing"
    if kind == "bert":
        without = logits_of(tmp_path, items)
        assert np.abs(without - expected).max() > 1e-3, "token types make no difference to this model"


@pytest.mark.parametrize("kind", KINDS)
def test_labels(kind, tmp_path):
    make_classifier(tmp_path, kind, 3)
    items = asyncio.run(load_tokenizer(tmp_path).encode(DOCUMENTS, None))
    expected = reference_logits(tmp_path, DOCUMENTS)
    assert np.abs(logits_of(tmp_path, items) - expected).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [24, 25, 40])
def test_pairs_are_cut_as_transformers_cuts_them(kind, most, tmp_path):
    from transformers import PreTrainedTokenizerFast

    make_classifier(tmp_path, kind, 1)
    reference = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    firsts = [QUERY, PROSE[2][:200], "a", PROSE[5][:90]]
    seconds = ["short", PROSE[3][:200], PROSE[4][:200], PROSE[6][:91]]
    items, offsets = paired(tmp_path, firsts, seconds, Truncation(whole=most))
    expected = reference(firsts, seconds, truncation="longest_first", max_length=most, return_token_type_ids=True)
    assert items == expected["input_ids"]
    if kind in ("bert", "modernbert"):
        assert offsets == [types.index(1) for types in expected["token_type_ids"]]
    # One first text for all is the same as many alike: cutting it for one pair leaves it whole for the next.
    shared, _ = paired(tmp_path, [PROSE[2][:200]], seconds, Truncation(whole=most))
    assert shared == paired(tmp_path, [PROSE[2][:200]] * 4, seconds, Truncation(whole=most))[0]


def test_a_last_token_that_is_also_the_padding_counts(tmp_path):
    make_classifier(tmp_path, "qwen3", 1)
    pad = read_model_facts(tmp_path).pad_token_id
    ending = logits_of(tmp_path, [[7, 8, 9, pad]])
    with torch.no_grad():
        model = load_classifier(tmp_path, "float32")
        hidden = model.base_model(input_ids=torch.tensor([[7, 8, 9, pad]])).last_hidden_state
        assert np.abs(ending - model.score(hidden[:, -1]).double().numpy()).max() < 1e-4


def test_a_checkpoint_without_its_head_is_refused(tmp_path, tiny):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ModelError, match=r"lacks 2 tensors, classifier\.bias first"):
        load_classifier(tmp_path, "float32")
