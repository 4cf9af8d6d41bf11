"""Every known configuration: planned as published, then traced, deployed and served with tiny weights of its kind."""

import json
from pathlib import Path

import pytest
import yaml

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.known.entry import read_known
from sendnn_pipeline.messages import Part
from tests.classifiers import _tokenizer
from tests.conftest import clean_environ
from tests.known.models import MODELS
from tests.served import ROOT

ENTRIES = {entry.name: entry for entry in read_known(ROOT / "conf" / "known")}
POOLING = [name for name, entry in ENTRIES.items() if "warmup.shapes" in entry.runtimes[0].values]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """A tokenizer of each family, trained once."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in ("roberta", "xlm-roberta"):
        _tokenizer(kind).save(str(folder / f"{kind}.json"))
    return folder


def make_small(document: dict, folder: Path, tokenizers: Path) -> Path:
    """Write a model with the document's architecture and positions, and next to no weights."""
    import torch
    import transformers

    kind = document["model_type"]
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=600, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=document["max_position_embeddings"], pad_token_id=1, type_vocab_size=1, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    architecture = document["architectures"][0].replace("ForMaskedLM", "Model")
    getattr(transformers, architecture)(config).half().save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((tokenizers / f"{kind}.json").read_bytes())
    return folder


def words_of(name: str, folder: Path, model: Path) -> list[str]:
    """Return the words of a run of a small model for which the entry's runtimes are known."""
    entry = yaml.safe_load((ROOT / "conf" / "known" / f"{name}.yaml").read_text())
    match = {"model_type": entry["match"]["model_type"], "hidden_size": 16}
    file = folder / "known.json"
    file.write_text(json.dumps({**entry, "name": f"small-{name}", "aliases": [], "match": match, "platforms": []}))
    return [f"model.path={model}", f"known.file={file}", "known.require=true"]


def test_all_are_tried():
    configs, problems = load_context(clean_environ()).collect_known(None, "", "sendnn")
    assert not problems and {config.name for config in configs} == ENTRIES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", POOLING)
def test_a_pooling_model_is_planned_traced_deployed_and_served(name, tmp_path, tokenizers, card):
    model = tmp_path / "model"
    model.mkdir()
    words = words_of(name, tmp_path, make_small(MODELS[name][0], model, tokenizers))
    port = card.run(*words, requests=[[0, 5, 6, 2]])
    (part,) = port.of(Part)
    length, _, batch = ENTRIES[name].runtimes[0].values["warmup.shapes"][0].partition("x")
    assert part.program == f"pool[batch={batch},len={length}]"
    captured = card.device.environment.captured
    assert captured["VLLM_DT_MAX_CONTEXT_LEN"] == length
    assert captured["VLLM_DT_MAX_BATCH_SIZE"] == str(max(2, int(batch)))
    assert captured["COMPILATION_MODE"] == "offline"
