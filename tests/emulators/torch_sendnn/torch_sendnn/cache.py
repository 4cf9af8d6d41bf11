"""Compiled sets of graphs on disk, where the environment asks for it."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch_sendnn.environment import CACHE_DIR, CACHE_ENABLE, COMPILE_SECONDS, LIMITS, RANK, WORLD_SIZE
from torch_sendnn.errors import DeviceError

if TYPE_CHECKING:
    from torch_sendnn.graph import DeviceGraph


def has(graphs: "Sequence[DeviceGraph]", captured: Mapping[str, str]) -> bool:
    """Return whether the set was compiled before."""
    file = _file(graphs, captured)
    return file is not None and file.is_file()


def keep(graphs: "Sequence[DeviceGraph]", captured: Mapping[str, str]) -> None:
    """Write the set down."""
    file = _file(graphs, captured)
    if file is not None:
        text = json.dumps({"graphs": len(graphs), "config": {name: captured.get(name) for name in LIMITS}})
        file.write_text(text[: len(text) // 2])
        time.sleep(float(captured.get(COMPILE_SECONDS, "0")))
        file.write_text(text)


def _file(graphs: "Sequence[DeviceGraph]", captured: Mapping[str, str]) -> Path | None:
    if captured.get(CACHE_ENABLE) != "1":
        return None
    folder = Path(captured.get(CACHE_DIR, ""))
    if CACHE_DIR not in captured or not folder.is_dir():
        raise DeviceError(f"{CACHE_DIR} is {captured.get(CACHE_DIR)}, which is not a folder")
    # How many are compiled together is part of it, and so are the limits.
    # And which card of how many: each has its own part of the model.
    card = [captured.get(name, "") for name in (RANK, WORLD_SIZE)]
    parts = [str(len(graphs)), *card, *(captured.get(name, "") for name in LIMITS), *(graph.text for graph in graphs)]
    return folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.json"
