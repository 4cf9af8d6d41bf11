"""A tiny decoder with a real tokenizer, and what transformers generates with it."""

import json
import pydoc_data.topics
from pathlib import Path
from typing import Any

CONTEXT = 256
BEGIN, END, TURN, END_OF_TURN = "<s>", "</s>", "<|turn|>", "<|end|>"
# Which the tokenizer knows, and the model has no embedding for.
BEYOND = "<pic>"
# Refuses what a template may refuse, knows tools and documents, and begins a text itself.
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'critic' %}{{ raise_exception('this model listens to no critic') }}{% endif %}"
    "<|turn|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}"
    "{% for tool in tools or [] %}tool {{ tool.function.name }}\n{% endfor %}"
    "{% for document in documents or [] %}document {{ document.text }}\n{% endfor %}"
    "{% if mood is defined %}mood {{ mood }}\n{% endif %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def make_tokenizer() -> Any:
    """Return a byte-level BPE that puts a begin-of-text before each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[BEGIN, END, TURN, END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([pydoc_data.topics.topics["assert"], pydoc_data.topics.topics["if"]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    return tokenizer


def make_llama(folder: Path) -> Path:
    """Write a random llama of two layers; its two ends of text are in one of its files each.

    Its tokenizer has one token more than the model, as those of models that were trained further often do.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    vocab_size = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([BEYOND])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3], "do_sample": False}))
    names = {
        "bos_token": BEGIN,
        "eos_token": {"__type": "AddedToken", "content": END},
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, "chat_template": TEMPLATE}))
    return folder


class Reference:
    """The same model in transformers, in float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def greedy(self, ids: list[int], max_tokens: int, ends: tuple[int, ...] = (1, 3)) -> list[int]:
        """Return the tokens that follow ``ids``."""
        import torch

        made = self.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(ends) or -1,
            pad_token_id=2,
        )
        return made[0, len(ids) :].tolist()

    def logprobs(self, ids: list[int]) -> Any:
        """Return the log probabilities behind each token, ``[tokens, vocabulary]``."""
        import torch

        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0].log_softmax(-1)


def events(served: Any, path: str, body: dict) -> list[dict]:
    """Return the events of a stream, which ends as OpenAI's do."""
    lines = served.post(path, json={**body, "stream": True}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""], lines[-3:]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
