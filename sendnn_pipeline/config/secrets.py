"""The API key: from a file or a variable, never from the configuration, never printed."""

from collections.abc import Mapping
from pathlib import Path

from sendnn_pipeline.config.environment import API_KEY
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.files import read_text

REDACTED = "******"


def read_api_key(environ: Mapping[str, str], file: str | None, where: str = "") -> str | None:
    """Return the API key, or None when neither ``serve.api_key_file`` nor the variable is set.

    Raises:
        ConfigError: both are set, or the file is unreadable or empty.
    """
    variable = environ.get(API_KEY)
    if file is None:
        return variable or None
    if variable:
        raise ConfigError(f"serve.api_key_file and {API_KEY} are both set", where=where, hint="keep one")
    try:
        key = read_text(Path(file).expanduser()).strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"serve.api_key_file={file} cannot be read: {error}", where=where) from None
    if not key:
        raise ConfigError(f"serve.api_key_file={file} is empty", where=where, hint="put the key in it")
    return key
