"""A process that says whether ranks can divide a model: with an error's message and hint, where they cannot."""

import json
import sys
from pathlib import Path

from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models.shards import read_shard_plan


def answer(folder: Path) -> int:
    """Return the exit code, and print why the model cannot be divided."""
    try:
        read_shard_plan(folder)
    except ModelError as error:
        sys.stdout.write(json.dumps([error.message, error.hint]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(answer(Path(sys.argv[1])))
