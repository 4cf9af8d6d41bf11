"""Flags of vLLM and text-embeddings-inference, and the keys that do the same here."""

from collections.abc import Iterable, Sequence

from sendnn_pipeline.config.environment import API_KEY
from sendnn_pipeline.errors import ConfigError

MODEL = "model=local model.path"
# Those whose key has another name; for the others it is the key's own last part.
KEYS = {
    "model": MODEL,
    "model-id": MODEL,
    "served-model-name": "model.served_name",
    "hostname": "serve.host",
    "max-batch-tokens": "scheduler.max_num_batched_tokens",
    "max-concurrent-requests": "serve.max_queue",
    "payload-limit": "serve.max_body_bytes",
}


def unknown_flag(words: Sequence[str], keys: Iterable[str]) -> ConfigError:
    """Return the error for a flag that there is not: the key that does what it asks for, where there is one.

    Args:
        words: the flag, and what may be its value.
        keys: all of them.
    """
    flag, equals, value = words[0].partition("=")
    name, value = flag.lstrip("-"), value if equals else "".join(words[1:]) or "..."
    if name == "api-key":
        return ConfigError(f"{flag} is not a flag", hint=f"set the variable {API_KEY}")
    last = name.replace("-", "_")
    named = [KEYS[name]] if name in KEYS else sorted(key for key in keys if key.rpartition(".")[2] == last)
    hint = " or ".join(f"{key}={value}" for key in named)
    return ConfigError(f"{flag} is not a flag", hint=f"write {hint}" if hint else "--help lists flags and keys")
