"""Warnings before a run and its last error: lines of text, or objects where the log is JSON."""

import logging
from collections.abc import Mapping, Sequence

from sendnn_pipeline.config.environment import KEY_PREFIX
from sendnn_pipeline.config.serving import LogConfig, LogFormat
from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.observe.logs import logging_to_stderr

log = logging.getLogger(__name__)
JSON_WORDS = {"log=json", "log.format=json"}
JSON_VARIABLES = (f"{KEY_PREFIX}log", f"{KEY_PREFIX}log__format")


def asks_for_json(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether the log is to be JSON, as far as it can be known of a run that does not compose.

    Args:
        words: of the command line.
        environ: the environment.
    """
    return not JSON_WORDS.isdisjoint(words) or any(environ.get(name) == "json" for name in JSON_VARIABLES)


def report_error(error: PipelineError, words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Log why a run ended where its log is JSON, once; return the line of text for others, empty where it is logged."""
    if error.is_logged:
        return ""
    if not asks_for_json(words, environ):
        return "\n".join([f"error: {error}", *error.details, ""])
    with logging_to_stderr(LogConfig(format=LogFormat.json)):
        log.error("%s", error)
    return ""


def log_warnings(warnings: Sequence[str]) -> None:
    """Log the warnings about a configuration before its run, as JSON."""
    with logging_to_stderr(LogConfig(format=LogFormat.json)):
        for warning in warnings:
            log.warning("%s", warning)
