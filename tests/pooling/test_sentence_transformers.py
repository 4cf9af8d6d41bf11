"""Vectors against `SentenceTransformer.encode`, of checkpoints that sentence-transformers itself saved."""

import json
import shutil

import numpy as np
import pytest
import sentence_transformers as st
from sentence_transformers.sentence_transformer import modules

from sendnn_pipeline.errors import ConfigError, ModelError
from tests.conftest import resolved_run
from tests.sentence_models import PROMPTS, TEXTS, embedder, same, save
from tests.served import EAGER_FLOAT32

MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.mark.parametrize("mode", MODES)
def test_every_pooling(tiny, tmp_path, mode):
    same(tmp_path, save(tiny, tmp_path, pooling=mode))


def test_two_poolings_and_every_module(tiny, tmp_path):
    import torch

    after = [
        modules.Dense(64, 24, bias=False, activation_function=torch.nn.GELU()),
        modules.Dropout(0.5),
        modules.LayerNorm(24),
        modules.Dense(24, 24, use_residual=True),
        modules.Dense(24, 16, activation_function=torch.nn.Identity(), use_residual=True),
        modules.Normalize(),
    ]
    model = save(tiny, tmp_path, *after, pooling=("lasttoken", "max"))
    with torch.no_grad():
        # A new one is all ones and zeros, as if it were not there.
        model[4].norm.weight.copy_(torch.linspace(0.5, 1.5, 24))
        model[4].norm.bias.copy_(torch.linspace(-1, 1, 24))
    model.save(str(tmp_path), create_model_card=False)
    same(tmp_path, model)
    plain = model.encode(TEXTS, normalize_embeddings=False)
    with embedder(tmp_path, "engine.normalize=false") as ours:
        without = ours.embed(TEXTS)
    assert np.abs(without / np.linalg.norm(without, axis=1, keepdims=True) - plain).max() < 1e-5
    assert np.linalg.norm(without, axis=1).max() > 1.01


def test_the_older_form_of_the_pooling_file(tiny, tmp_path):
    save(tiny, tmp_path)
    flags = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    same(tmp_path, st.SentenceTransformer(str(tmp_path), device="cpu"))


def test_prompts(tiny, tmp_path):
    model = save(tiny, tmp_path, prompts=PROMPTS, default_prompt_name="query")
    same(tmp_path, model)
    same(tmp_path, model, "engine.prompt_name=document", prompt_name="document")
    same(tmp_path, model, "engine.prompt_name=''", prompt_name="plain")
    with embedder(tmp_path) as ours:
        for name in PROMPTS:
            expected = model.encode(TEXTS, prompt_name=name)
            assert np.abs(ours.embed(TEXTS, prompt_name=name) - expected).max() < 1e-5, name
        for kind, encode in (("query", model.encode_query), ("document", model.encode_document)):
            for said in (kind, f"search_{kind}"):
                assert np.abs(ours.embed(TEXTS, input_type=said) - encode(TEXTS)).max() < 1e-5, said
        assert np.abs(ours.embed(TEXTS, input_type="clustering") - model.encode(TEXTS)).max() < 1e-5
        query, *others = model.encode(TEXTS)
        cosines = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in others]
        assert ours.score(TEXTS[0], TEXTS[1:]) == pytest.approx(cosines, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_is_not_pooled(tiny, tmp_path, mode):
    model = save(tiny, tmp_path, pooling=mode, include_prompt=False, prompts=PROMPTS, default_prompt_name="query")
    same(tmp_path, model)
    if mode in ("mean", "cls"):
        assert np.abs(model.encode(TEXTS) - save(tiny, tmp_path, pooling=mode).encode(TEXTS)).max() > 1e-3
    same(tmp_path, model, "engine.prompt_name=''", prompt_name="plain")


def test_a_prompt_that_the_model_does_not_have(tiny, tmp_path):
    save(tiny, tmp_path, prompts=PROMPTS)
    with pytest.raises(ConfigError, match=r"engine.prompt_name=title is not a prompt of the model; it has document"):
        resolved_run([*EAGER_FLOAT32, f"model.path={tmp_path}", "engine.prompt_name=title"])
    config = tmp_path / "config_sentence_transformers.json"
    config.write_text(json.dumps({"default_prompt_name": "title"}))
    with pytest.raises(
        ModelError, match=r"config_sentence_transformers.json has default_prompt_name=title and no such"
    ):
        resolved_run([*EAGER_FLOAT32, f"model.path={tmp_path}"])


@pytest.fixture
def cased(tiny, tmp_path):
    """The tiny model with a tokenizer that takes letters as they are."""
    folder = shutil.copytree(tiny, tmp_path / "cased")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": None}))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    said = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def test_lower_case(cased, tmp_path):
    saved = tmp_path / "saved"
    save(cased, saved)
    upper = [text.upper() for text in TEXTS]
    before = st.SentenceTransformer(str(saved), device="cpu").encode(upper)
    file = saved / "sentence_bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": True}))
    model = st.SentenceTransformer(str(saved), device="cpu")
    assert np.abs(model.encode(upper) - before).max() > 1e-3
    same(saved, model, texts=upper)
    run = resolved_run([*EAGER_FLOAT32, f"model.path={saved}"]).run
    assert any("lower case  (sentence_bert_config.json)" in line.value for line in run.plan.lines)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_the_length_of_every_file(tiny, tmp_path, kind):
    save(tiny, tmp_path)
    (tmp_path / "sentence_bert_config.json").unlink()
    (tmp_path / f"sentence_{kind}_config.json").write_text(json.dumps({"max_seq_length": 12, "do_lower_case": False}))
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    resolved = resolved_run([*EAGER_FLOAT32, f"model.path={tmp_path}"])
    assert resolved.run.config.model.max_model_len == model.max_seq_length == 12
    assert resolved.draft.where("model.max_model_len") == f"sentence_{kind}_config.json"


def test_a_length_that_only_the_tokenizer_s_file_has(tiny, tmp_path):
    model = save(tiny, tmp_path)
    model.max_seq_length = 12
    model.save(str(tmp_path), create_model_card=False)
    assert "max_seq_length" not in (tmp_path / "sentence_bert_config.json").read_text()
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    with embedder(tmp_path) as ours:
        found = ours.embed(TEXTS, truncate_prompt_tokens=-1)
    assert np.abs(found - model.encode(TEXTS)).max() < 1e-5
    where = resolved_run([*EAGER_FLOAT32, f"model.path={tmp_path}"]).draft.where("model.max_model_len")
    assert where == "tokenizer_config.json"


def test_shorter_vectors(tiny, tmp_path):
    """That the files cut, as they come; that a request cuts, of length one."""
    model = save(tiny, tmp_path, modules.Normalize(), truncate_dim=12)
    assert model.truncate_dim == 12
    same(tmp_path, model)
    same(tmp_path, model, "engine.normalize=true", normalize_embeddings=True)
    with embedder(tmp_path) as ours:
        found = ours.embed(TEXTS, dimensions=6)
    assert np.abs(found - model.encode(TEXTS, truncate_dim=6, normalize_embeddings=True)).max() < 1e-5


def test_weights_of_half_precision(tiny, tmp_path):
    model = save(tiny, tmp_path, modules.Dense(32, 8)).half()
    model.save(str(tmp_path), create_model_card=False)
    assert b'"F16"' in (tmp_path / "2_Dense" / "model.safetensors").read_bytes()[:200]
    wide = st.SentenceTransformer(str(tmp_path), device="cpu", model_kwargs={"dtype": "float32"}).float()
    same(tmp_path, wide)


def families():
    import transformers as t

    vocab = {"vocab_size": 96, "pad_token_id": 0}
    return {
        "t5": lambda: t.T5EncoderModel(
            t.T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", **vocab)
        ),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=64, **vocab)
        ),
        "mpnet": lambda: t.MPNetModel(
            t.MPNetConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=66,
                **vocab,
            )
        ),
        "gemma": lambda: t.Gemma3TextModel(
            t.Gemma3TextConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                max_position_embeddings=64,
                sliding_window=8,
                use_bidirectional_attention=True,
                **vocab,
            )
        ),
    }


@pytest.mark.parametrize("family", ["t5", "distilbert", "mpnet", "gemma"])
def test_what_is_served_most(tiny, tmp_path, family):
    """sentence-t5 and GTR; distiluse; all-mpnet; EmbeddingGemma: encoders of their families, with Dense behind."""
    import torch

    plain = shutil.copytree(tiny, tmp_path / "plain")
    (plain / "model.safetensors").unlink()
    torch.manual_seed(5)
    families()[family]().save_pretrained(plain)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **special}
    (plain / "tokenizer_config.json").write_text(json.dumps(said))
    dense = modules.Dense(32, 8, bias=False, activation_function=torch.nn.Identity())
    model = save(plain, tmp_path / "saved", dense, modules.Normalize())
    same(tmp_path / "saved", model)


def test_a_cross_encoder_with_a_prompt_and_an_activation(tmp_path):
    import torch

    from tests.classifiers import make_classifier

    plain = tmp_path / "plain"
    plain.mkdir()
    make_classifier(plain, "bert", 1)
    prompts = {"prompts": {"rank": "an attribute of "}, "default_prompt_name": "rank"}
    model = st.CrossEncoder(str(plain), device="cpu", activation_fn=torch.nn.Identity(), **prompts)
    saved = tmp_path / "saved"
    model.save(str(saved))
    expected = model.predict([("names and values", text) for text in TEXTS])
    with embedder(saved) as ours:
        assert ours.score("names and values", TEXTS) == pytest.approx(expected.tolist(), abs=1e-5)
    run = resolved_run([*EAGER_FLOAT32, f"model.path={saved}"]).run
    assert run.plan.facts.activation == "identity" and run.plan.prompt == "an attribute of "
