"""How far a run over a file came, recorded beside its output."""

from pathlib import Path
from typing import Any

import msgspec

from sendnn_pipeline.errors import ConfigError


class Progress(msgspec.Struct, frozen=True):
    """Everything past these sizes was written after the record and is cut off."""

    identity: dict[str, Any]
    """What must be the same for the run to go on."""
    input_offset: int = 0
    next_line: int = 1
    output_bytes: int = 0
    errors_bytes: int = 0
    num_lines: int = 0
    num_bad: int = 0
    num_rows: int = 0
    done: bool = False

    def write(self, output: Path) -> None:
        """Replace the record in one step."""
        partial = beside(output, ".progress.partial")
        partial.write_bytes(msgspec.json.encode(self))
        partial.replace(beside(output, ".progress"))


def beside(output: Path, ending: str) -> Path:
    """Return the file of this name with an ending."""
    return output.with_name(output.name + ending)


def read_progress(output: Path, identity: dict[str, Any], *, overwrite: bool, is_pipe: bool) -> Progress:
    """Return the record of an earlier run of the same work, or a new one.

    Args:
        output: the file of answers.
        identity: of this work.
        overwrite: whether it starts over.
        is_pipe: whether its input can be read only once.

    Raises:
        ConfigError: the output is there, and is not that of the same work.
    """
    file = beside(output, ".progress")
    if overwrite or not (output.exists() or file.exists()):
        return Progress(identity)
    if is_pipe:
        raise ConfigError(
            f"serve.output={output} is there already, and what comes through a pipe cannot go on where it stopped",
            hint="name another file, or start over with serve.overwrite=true",
        )
    try:
        recorded = msgspec.json.decode(file.read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        raise ConfigError(
            f"serve.output={output} is there already, and nothing records how far it came",
            hint="name another file, or start over with serve.overwrite=true",
        ) from None
    differing = next((key for key, value in identity.items() if recorded.identity.get(key) != value), None)
    if differing is not None:
        raise ConfigError(
            f"serve.output={output} was begun with {differing}={recorded.identity.get(differing)}, and now it is "
            f"{identity[differing]}",
            hint="name another file, or start over with serve.overwrite=true",
        )
    return recorded
