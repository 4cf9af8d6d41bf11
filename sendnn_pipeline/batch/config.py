"""Options of ``serve=batch``."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from sendnn_pipeline.config.serving import ServeConfig


@dataclass(frozen=True, kw_only=True)
class BatchConfig(ServeConfig):
    """A file of texts through the engine, without HTTP."""

    target: str = "batch"
    """Registered serve target."""
    input: str | None = None
    """JSONL file: objects with `text` or `input`, strings, or an OpenAI batch file; `-` or a FIFO reads a pipe."""
    output: str | None = None
    """File of answers, `.jsonl` or `.npy`; bad lines go to a file of the same name with `.errors.jsonl`."""
    truncate: bool = False
    """Cut texts that are too long, instead of calling their lines bad."""
    overwrite: bool = False
    """Start over and replace what is in `output`."""
    fresh: bool | None = None
    """Old name of `serve.overwrite`."""
    chunk_lines: Annotated[int, Meta(ge=1)] = 256
    """Lines that are answered, written and recorded together."""
