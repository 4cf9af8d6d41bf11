"""What must be the same for a run over a file to go on: what is asked, of what, and what answers."""

from pathlib import Path
from typing import Any

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.batch.progress import beside
from sendnn_pipeline.batch.source import Source
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.models.checkpoint import weights_digest

WRITTEN = ("", ".errors.jsonl", ".progress", ".progress.partial")
DIGEST_LENGTH = 16


def identity_of(source: Source, run: Run, options: BatchConfig) -> dict[str, Any]:
    """Return it by name. Of the model it is the content of its files: folders of one name hold many models."""
    files = [*run.model.weight_files, *sorted(run.model.folder.rglob("*.json"))]
    return {
        **source.identity,
        "the model's files": weights_digest(files, run.cache_dir)[:DIGEST_LENGTH],
        "model.dtype": run.config.model.dtype,
        "model.served_name": run.served_name,
        "max_input_tokens": run.plan.max_input_tokens,
        **dict(run.plan.key_fields),
        "serve.truncate": options.truncate,
    }


def check_output(source: Source, output: Path) -> None:
    """Refuse an output whose files cannot be written, or among which the input is, by whatever link.

    Raises:
        ConfigError: the output cannot be resumed with this input.
    """
    if output.exists() and not output.is_file():
        raise ConfigError(f"serve.output={output} is not a file", hint="name another file")
    for file in (beside(output, ending) for ending in WRITTEN):
        if file.resolve() == source.file.resolve() or (file.exists() and file.samefile(source.file)):
            raise ConfigError(
                f"serve.output={output} would write {file}, which is serve.input={source.name}",
                hint="name another serve.output; the input is never written",
            )
