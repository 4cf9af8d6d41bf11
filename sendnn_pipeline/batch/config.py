"""Options of ``serve=batch``."""

from dataclasses import dataclass

from sendnn_pipeline.config.schema import ServeConfig


@dataclass(frozen=True, kw_only=True)
class BatchConfig(ServeConfig):
    """A file of texts through the engine, without HTTP."""

    target: str = "batch"
    """Registered serve target."""
    input: str | None = None
    """JSONL file: objects with `text` or `input`, strings, or an OpenAI batch file."""
    output: str | None = None
    """File of vectors, `.jsonl` or `.npy`; bad lines go to a file of the same name with `.errors.jsonl`."""
    truncate: bool = False
    """Cut texts that are too long, instead of calling their lines bad."""
    fresh: bool = False
    """Start over, in place of what is in `output`."""
    chunk_lines: int = 256
    """Lines that are answered, written and recorded together."""
