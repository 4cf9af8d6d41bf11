"""What the plugin for vLLM writes beside a cache of torch_sendnn: what was compiled into it, in JSON. No torch.

Its entries say how many cards, the context, the batch and the model's name, and nothing of chunk, volume limit or KV
blocks, which change the graphs, too: what a matching entry lacks after all is refused by the library, as nothing
may be compiled then.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sendnn_pipeline.backends.base import Bounds
from sendnn_pipeline.backends.library_cache import OtherEntry
from sendnn_pipeline.backends.sendnn.environment import BATCH, CHUNK, CONTEXT, TKV_LIMIT
from sendnn_pipeline.errors import BackendError

# The first that is there is read: a list of entries, and a single one.
CATALOG, LOG = "pre_compiled_cache_catalog.json", "model_compile.log.json"
CARDS, MODEL_NAME, SHAPES = "NUM_AIUS", "MODEL_NAME", "shapes"
LENGTHS, BATCHES = "SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "SENDNN_INFERENCE_WARMUP_BATCH_SIZES"
HINT = "mend it, or remove it and compile with pipeline=precompile"
MIN_BATCH = 2


def read_catalog(folder: Path, device: Mapping[str, str], bounds: Bounds, model: str) -> list[OtherEntry]:
    """Return the entries of the folder's catalog; empty where it has no catalog.

    Args:
        folder: of the cache.
        device: the run's variables of the device.
        bounds: the run's largest sizes, its shapes, and how many cards it is for.
        model: what the run's model is called.

    Raises:
        BackendError: it is no file, not JSON, or not of entries.
    """
    file = next((folder / name for name in (CATALOG, LOG) if (folder / name).exists()), None)
    if file is None:
        return []
    content = _read(file)
    listed = content if isinstance(content, list) else [content] if content else []
    entries = []
    for index, entry in enumerate(listed):
        data = entry.get("data") if isinstance(entry, dict) else None
        if not isinstance(data, dict):
            raise BackendError(f"entry {index} of {file} has no data: it is {json.dumps(entry)[:100]}", hint=HINT)
        entries.append(_entry(f"{file.name}[{index}]", data, device, bounds, model))
    return entries


def _read(file: Path) -> Any:
    if not file.is_file():
        raise BackendError(f"{file} is not a file", hint=HINT)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"{file} cannot be read as JSON: {reason}", hint=HINT) from None


def _entry(where: str, data: Mapping[str, Any], device: Mapping[str, str], bounds: Bounds, model: str) -> OtherEntry:
    fields = {name: _text(name, value) for name, value in data.items() if name != MODEL_NAME}
    if LENGTHS in data:
        pairs = zip(_numbers(data[LENGTHS]), _numbers(data.get(BATCHES, "")), strict=False)
        fields[SHAPES] = _shapes(sorted(pairs))
    shapes, wanted = bounds.shapes, {CARDS: str(bounds.ranks)}
    if shapes or SHAPES in fields:
        wanted[SHAPES] = _shapes(sorted((str(length), str(batch)) for length, batch in shapes)) or "a decoder's"
    if not shapes:
        # What an entry may leave out is compared where it is there.
        limits = [name for name in (CHUNK, TKV_LIMIT) if name in device and name in fields]
        wanted |= {name: device[name] for name in (CONTEXT, BATCH, *limits)}
    name = str(data.get(MODEL_NAME, "a model without a name"))
    same = name.rstrip("/").rpartition("/")[2] == model.rstrip("/").rpartition("/")[2]
    notes = () if same else (f"{where} is of {name}, and this run's model is {model}",)
    return OtherEntry(where, fields, wanted, notes)


def _numbers(listed: Any) -> list[str]:
    """Return the numbers of a list, or of a text with commas."""
    parts = listed if isinstance(listed, list) else str(listed).split(",")
    return [str(part).strip() for part in parts]


def _shapes(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{length}x{batch}" for length, batch in pairs)


def _text(name: str, value: Any) -> str:
    """Return a value as the device's variables have it: a batch of one is compiled as one of two."""
    text = str(value).strip()
    if name == BATCH and text.isdecimal():
        return str(max(MIN_BATCH, int(text)))
    return text
