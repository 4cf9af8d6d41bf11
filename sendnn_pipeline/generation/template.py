"""How a model's files say that a chat is written as one text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import read_text
from sendnn_pipeline.models.json_files import read_object

DEFAULT, WITH_TOOLS = "default", "tool_use"
TOKENIZER_CONFIG, SPECIAL_TOKENS, TEMPLATE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"


@dataclass(frozen=True)
class ChatTemplate:
    """Jinja templates by name, and the names of special tokens, which they write."""

    texts: Mapping[str, str]
    """Empty where the model has none."""
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    """Such as ``bos_token``."""

    def text(self, *, tools: bool) -> str:
        """Return the template of a chat, with tools or without; empty where there is none."""
        if tools and WITH_TOOLS in self.texts:
            return self.texts[WITH_TOOLS]
        return self.texts.get(DEFAULT, "")


def read_chat_template(folder: Path) -> ChatTemplate:
    """Read a model's chat templates from where transformers looks for them.

    Raises:
        ModelError: a file is broken.
    """
    config = read_object(folder / TOKENIZER_CONFIG)
    special = {**read_object(folder / SPECIAL_TOKENS), **config}
    names = {name: _token(value) for name, value in special.items() if name.endswith("_token")}
    file = folder / TEMPLATE
    try:
        # As in transformers, the file of its own goes before what the configuration has.
        texts = {DEFAULT: read_text(file)} if file.is_file() else _texts(config.get("chat_template"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the chat template of {folder} is not readable: {type(error).__name__}: {error}",
            hint="fetch the model again",
        ) from None
    return ChatTemplate(texts, {name: token for name, token in names.items() if token is not None})


def _texts(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        return {str(one["name"]): str(one["template"]) for one in value}
    return {DEFAULT: str(value)} if value else {}


def _token(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
