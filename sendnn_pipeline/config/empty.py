"""Empty text where a key may be null: it counts as unset, as an empty variable does."""

from collections.abc import Mapping
from typing import Any

from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.errors import ConfigError

# Empty text is a value of its own there: no prompt.
MEANT = ("engine.prompt_name",)
# Without them a server would be open, or a file not compared, because a shell's variable is not set.
PROTECTING = ("serve.api_key_file", "serve.ssl_certfile", "serve.ssl_keyfile", "model.sha256")


def settle_empty(draft: Draft, types: Mapping[str, Any]) -> None:
    """Take what the layer below says, or null, where text is blank; and say so.

    Args:
        draft: the run.
        types: of all keys.

    Raises:
        ConfigError: the key protects something.
    """
    for key in [key for key in draft.origins if key in draft and types.get(key) == str | None and key not in MEANT]:
        if not _is_blank(draft[key]):
            continue
        where = draft.where(key)
        if key in PROTECTING:
            raise ConfigError(f"{key} is empty", where=where, hint="give it a value, or leave it out")
        below = next((origin for origin in draft.origins[key] if not _is_blank(origin.value)), None)
        draft.note(f"{key} (set by {where}) is empty and counts as unset")
        draft.put(key, below.value if below else None, Layer.CHOSEN, f"{where} is empty")


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()
