"""A model's JSON files, read before any weight is loaded."""

import json
from pathlib import Path
from typing import Any

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.files import read_text


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelError: it is missing or broken; the message names it.
    """
    try:
        return json.loads(read_text(file))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing", hint="is this a transformers model folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not readable as JSON: {error}", hint="fetch the model again") from None


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
