"""What a model's files say of generating: its cache, its limits, where texts end, and how it likes to be sampled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.generation.template import ChatTemplate, read_chat_template
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.models.json_files import read_object

GENERATES = ("ForCausalLM", "LMHeadModel")
FULL, SLIDING = "full_attention", "sliding_attention"
# What generation_config.json may set of a request.
SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


@dataclass(frozen=True)
class GenerationFacts:
    """The facts that decide cache, Programs and defaults."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    layer_types: tuple[str, ...]
    """Of each layer: those of one type are compiled once."""
    end_ids: tuple[int, ...]
    """Tokens that end a text: those of config.json and of generation_config.json."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Of a request's sampling, where generation_config.json has any."""
    template: ChatTemplate = field(default_factory=lambda: ChatTemplate({}))

    def bytes_per_token(self, num_layers: int, bytes_of_number: int) -> int:
        """Return what the keys and values of one token take in all layers."""
        return 2 * num_layers * self.num_kv_heads * self.head_size * bytes_of_number


def read_generation_facts(model: ModelFacts) -> GenerationFacts:
    """Read config.json and generation_config.json.

    Raises:
        ModelError: a value is of the wrong kind, or there are no attention heads; the message names the file.
    """
    text, file = model.text_config, model.folder / "config.json"
    chosen = read_object(model.folder / "generation_config.json")
    try:
        heads = int(text.get("num_attention_heads") or text.get("n_head") or 0)
        kv_heads = int(text.get("num_key_value_heads") or heads)
        size = int(text.get("head_dim") or model.hidden_size // max(1, heads))
        ends = {*_ids(text.get("eos_token_id")), *_ids(chosen.get("eos_token_id"))}
    except (TypeError, ValueError) as error:
        raise ModelError(f"{file} or generation_config.json beside it: {error}", hint="fetch the model again") from None
    if not heads or not size:
        raise ModelError(f"{file} has no number of attention heads", hint="is this a decoder with attention?")
    defaults = {name: chosen[name] for name in SAMPLING_DEFAULTS if chosen.get(name) is not None}
    if chosen.get("do_sample") is False:
        defaults["temperature"] = 0.0
    types, template = _layer_types(text, model.num_layers), read_chat_template(model.folder)
    return GenerationFacts(heads, kv_heads, size, types, tuple(sorted(ends)), defaults, template)


def _layer_types(text: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
    """Return the type of each layer, as config.json lists them or says that every so many attends to all."""
    types = text.get("layer_types")
    if isinstance(types, list) and len(types) == num_layers:
        return tuple(map(str, types))
    every = text.get("sliding_window_pattern")
    if isinstance(every, int) and every > 1:
        return tuple(FULL if (layer + 1) % every == 0 else SLIDING for layer in range(num_layers))
    return (FULL,) * num_layers


def _ids(value: Any) -> list[int]:
    return [] if value is None else [int(entry) for entry in (value if isinstance(value, list) else [value])]
