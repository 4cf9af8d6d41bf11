"""Whether a model can be divided among ranks, by transformers: asked of another process, as its plans bring torch."""

import json
import subprocess
import sys
from pathlib import Path

from sendnn_pipeline.errors import ModelError

# The module that answers: with its message and hint where there is no plan.
ASKED = "sendnn_pipeline.models.shards"


def check_divides(folder: Path, env: "dict[str, str] | None" = None) -> None:
    """Refuse a model that ranks could not divide, within a few seconds.

    Args:
        folder: the model's folder.
        env: of the process that is asked; None is this one's.

    Raises:
        ModelError: as the ranks would raise it, or nobody could be asked.
    """
    words = [sys.executable, "-m", ASKED, str(folder)]
    asked = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return
    try:
        message, hint = json.loads(asked.stdout)
    except ValueError:
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"{folder}: transformers could not be asked whether ranks can divide it: {last}") from None
    raise ModelError(message, hint=hint)
