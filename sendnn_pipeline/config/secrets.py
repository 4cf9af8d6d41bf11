"""The API keys: from a file or a variable, never from the configuration, never printed."""

from collections.abc import Mapping

from sendnn_pipeline.config.environment import API_KEY
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.files import read_text
from sendnn_pipeline.paths import expand_path

REDACTED = "******"


def read_api_keys(environ: Mapping[str, str], file: str | None, where: str = "") -> tuple[str, ...]:
    """Return the API keys: the variable's one, or the file's, one a line; none when neither is set.

    Raises:
        ConfigError: both are set, or the file is unreadable or empty.
    """
    # A secret that was made with echo ends with a line break, which no header can have.
    variable = environ.get(API_KEY, "").strip()
    if environ.get(API_KEY) and not variable:
        raise ConfigError(f"{API_KEY} has blanks alone", hint="put the key in it, or unset it")
    if file is None:
        return (variable,) if variable else ()
    if variable:
        raise ConfigError(f"serve.api_key_file and {API_KEY} are both set", where=where, hint="keep one")
    try:
        lines = read_text(expand_path(file, "serve.api_key_file", where)).splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"serve.api_key_file={file} cannot be read: {error}", where=where) from None
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise ConfigError(f"serve.api_key_file={file} is empty", where=where, hint="put the key in it")
    return keys
