"""A model's JSON files, read before any weight is loaded."""

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sendnn_pipeline.config.accepted import accepted
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import read_text

T = TypeVar("T")
# How transformers writes numbers that JSON does not have: an object of this one entry.
FLOAT, FLOATS = "__float__", {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelError: it is missing or broken; the message names it.
    """
    try:
        return json.loads(read_text(file), object_hook=_tagged_float)
    except FileNotFoundError:
        raise ModelError(f"{file} is missing", hint="is this a transformers model folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not readable as JSON: {error}", hint="fetch the model again") from None


def _tagged_float(found: dict[str, Any]) -> Any:
    tag = found.get(FLOAT) if len(found) == 1 else None
    return FLOATS.get(tag, found) if isinstance(tag, str) else found


def read_object(file: Path, *, required: bool = False) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing and not required.

    Raises:
        ModelError: it is missing though required, or broken.
    """
    if not required and not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object", hint="fetch the model again")
    return content


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read the model's config.json.

    Raises:
        ModelError: it is missing or broken.
    """
    return read_object(folder / "config.json", required=True)


def convert(content: Any, kind: type[T], file: Path) -> T:
    """Return JSON content as a struct; entries that the struct does not have are nobody's here.

    Raises:
        ModelError: an entry is missing or of another type; the message names file, entry and what it must be.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        lacking = re.search(r"missing required field `(\w+)`", message)
        if lacking:
            inside = path.strip("`.")
            raise ModelError(
                f"{file} lacks {inside + '.' if inside else ''}{lacking[1]}", hint="is this a transformers model?"
            ) from None
        entry = path.strip("`.") or "its content"
        raise ModelError(
            f"{file}: {entry} must be {accepted(Any, message)}", hint="fetch the model again, or correct the file"
        ) from None


def read_struct(file: Path, kind: type[T]) -> T:
    """Read a JSON object as a struct, whose defaults stand where the file is missing.

    Raises:
        ModelError: it is broken, or an entry is of another type.
    """
    return convert(read_object(file), kind, file)


def file_in(folder: Path, name: str, file: Path) -> Path:
    """Return the path of what ``file`` names in its model's folder; links that lie there are the folder's own.

    Raises:
        ModelError: it is elsewhere.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelError(
            f"{file} names {name}, which is outside the model's folder", hint="nothing outside is read; fetch it again"
        )
    return folder / name
