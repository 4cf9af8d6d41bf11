"""What many tests need: a tiny model, the embedded model, texts, and real servers."""

import json
import os
import pydoc_data.topics
import random
from pathlib import Path

import pytest

from sendnn_pipeline.config.command_line import parse_words
from sendnn_pipeline.hooks.host import Host, open_host
from sendnn_pipeline.pipeline.describe import describe, read_and_resolve
from tests.classifiers import make_classifier
from tests.served import Served


def clean_environ(**variables: str) -> dict[str, str]:
    """Return this process's environment without variables of ours, plus ``variables``."""
    ours = ("SENDNN_", "VLLM_SPYRE_")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)} | variables


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The embedded default model, fetched once into the user's cache."""
    described = describe(open_host(clean_environ()), parse_words(["model=minilm"]))
    return described.source.fetch(described.model, described.cache_dir)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT of 64 positions with a real WordPiece tokenizer and mean pooling."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(folder: Path, *, pooling: str = "mean_tokens", normalize: bool = True) -> Path:
    """Write a tiny sentence-transformers model into ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "of", "and", "to", "in", "is", "hello", "world"]
    vocab = {word: index for index, word in enumerate([*words, *letters, *(f"##{letter}" for letter in letters)])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocab), max_position_embeddings=64, pad_token_id=0, **sizes)
    BertModel(config).save_pretrained(folder)
    modules = ["models.Transformer", "models.Pooling"] + (["models.Normalize"] if normalize else [])
    paths = ["", "1_Pooling", "2_Normalize"]
    described = [{"idx": i, "type": f"sentence_transformers.{m}", "path": paths[i]} for i, m in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(described))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """500 passages of real English prose, of mixed lengths: 5 to 250 tokens or so."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    chooser = random.Random(0)
    lengths = [min(160, max(3, round(chooser.lognormvariate(3.3, 0.8)))) for _ in range(500)]
    starts = [chooser.randrange(len(words) - 200) for _ in lengths]
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


@pytest.fixture
def host() -> Host:
    """The host of an environment without variables of ours."""
    return open_host(clean_environ())


def resolved_run(words: list[str], environ: dict[str, str] | None = None):
    """Resolve words over a model that is here already."""
    host = open_host(environ or clean_environ())
    described = describe(host, parse_words(words))
    return read_and_resolve(host, described, described.source.fetch(described.model, described.cache_dir))[0]


@pytest.fixture(scope="session")
def served_tiny(tiny: Path):
    """A real server of the tiny model, eager."""
    with Served(f"model.path={tiny}", "model=local", "backend=eager", "warmup.shapes=[16x1,16x4,48x4]") as served:
        yield served


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one label, which tells the texts of a pair apart by token types."""
    return make_classifier(tmp_path_factory.mktemp("cross-encoder"), "bert", 1)


@pytest.fixture(scope="session")
def served_cross_encoder(cross_encoder: Path):
    """A real server of it, eager."""
    with Served(f"model.path={cross_encoder}", "model=local", "backend=eager") as served:
        yield served


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa of three labels."""
    names = {"id2label": {"0": "no", "1": "yes", "2": "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
    return make_classifier(tmp_path_factory.mktemp("classifier"), "roberta", 3, **names)


@pytest.fixture(scope="session")
def served_classifier(classifier: Path):
    """A real server of it, eager."""
    with Served(f"model.path={classifier}", "model=local", "backend=eager") as served:
        yield served


@pytest.fixture(scope="session")
def served_minilm(minilm: Path):
    """A real server of the embedded model, eager."""
    with Served("model=minilm", "backend=eager", "warmup.shapes=[32x1,32x16,128x8,256x4]") as served:
        yield served
