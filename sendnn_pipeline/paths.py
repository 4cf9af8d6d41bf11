"""The paths that users write."""

from pathlib import Path

from sendnn_pipeline.errors import ConfigError


def expand_path(text: str, key: str, where: str = "") -> Path:
    """Return the absolute path that ``text`` stands for, ``~`` and ``~user`` expanded.

    Args:
        text: as the user wrote it.
        key: whose value it is, for the error.
        where: what set it.

    Raises:
        ConfigError: there is no such home folder, or no file system has such a name.
    """
    try:
        path = Path(text).expanduser().absolute()
        path.exists()
    except RuntimeError:
        home = text.split("/", 1)[0]
        hint = "set HOME, or write the folder in full" if home == "~" else "write the folder in full"
        raise ConfigError(f"{key}={text}: there is no home folder {home}", where=where, hint=hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{key}={text[:80]} cannot be used: {reason}", where=where) from None
    return path
