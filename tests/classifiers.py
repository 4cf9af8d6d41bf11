"""Tiny random sequence classifiers with real tokenizers of their families, and transformers' own answers of them."""

import json
import pydoc_data.topics
from pathlib import Path

import numpy as np

PROSE = [" ".join(text.split())[:2000] for text in pydoc_data.topics.topics.values()]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
KINDS = ("bert", "roberta", "xlm-roberta", "modernbert", "qwen3")


def make_classifier(folder: Path, kind: str, num_labels: int, **extra: object) -> Path:
    """Write a random classifier of a family into ``folder``.

    Args:
        folder: the model's, there already.
        kind: one of ``KINDS``.
        num_labels: one makes a cross-encoder.
        extra: further entries of config.json.
    """
    import torch
    import transformers as t

    tokenizer = _tokenizer(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {name: tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>", "<|endoftext|>")}
    pad = next(value for value in ids.values() if value is not None)
    common = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": pad, "num_labels": num_labels, **SIZES}
    # Wide enough for scores to differ.
    common["initializer_range"] = 0.3
    torch.manual_seed(7)
    model = {
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(max_position_embeddings=96, **common)),
        "roberta": lambda: t.RobertaForSequenceClassification(
            t.RobertaConfig(max_position_embeddings=98, type_vocab_size=1, **common)
        ),
        "xlm-roberta": lambda: t.XLMRobertaForSequenceClassification(
            t.XLMRobertaConfig(max_position_embeddings=98, type_vocab_size=1, **common)
        ),
        "modernbert": lambda: t.ModernBertForSequenceClassification(
            t.ModernBertConfig(max_position_embeddings=96, local_attention=16, global_attn_every_n_layers=2, **common)
        ),
        "qwen3": lambda: t.Qwen3ForSequenceClassification(
            t.Qwen3Config(max_position_embeddings=96, num_key_value_heads=1, head_dim=16, **common)
        ),
    }[kind]()
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | extra))
    return folder


def _tokenizer(kind: str):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if kind == "bert":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.train_from_iterator(PROSE, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
        made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return made
    if kind == "xlm-roberta":
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>")
        made.train_from_iterator(PROSE, trainer)
        ends = [("<s>", 0), ("</s>", 2)]
        made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
        return made
    special = {
        "roberta": ["<s>", "<pad>", "</s>", "<unk>"],
        "modernbert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        "qwen3": ["<|endoftext|>"],
    }[kind]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        PROSE, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    made.post_processor = {
        "roberta": lambda: processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False),
        "modernbert": lambda: processors.TemplateProcessing(
            "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
        ),
        "qwen3": lambda: processors.ByteLevel(trim_offsets=False),
    }[kind]()
    return made


def reference_logits(folder: Path, texts: list, most: int | None = None, dtype: str = "float32") -> np.ndarray:
    """Return transformers' own logits ``[texts, labels]``, one text or pair at a time, without padding.

    Args:
        folder: the model's.
        texts: strings, or pairs of strings.
        most: tokens to which transformers itself cuts each, the longer text of a pair first.
        dtype: in which it computes.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    types = getattr(model.config, "type_vocab_size", 0) > 1
    rows = []
    for text in texts:
        parts = (text,) if isinstance(text, str) else text
        cut = {"truncation": "longest_first", "max_length": most} if most else {}
        inputs = tokenizer(*parts, return_tensors="pt", return_token_type_ids=types, **cut)
        with torch.no_grad():
            rows.append(model(**inputs).logits[0].double().numpy())
    return np.stack(rows)
