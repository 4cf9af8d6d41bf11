"""A Unix socket to listen on, for a proxy on the same machine."""

import socket
from pathlib import Path

from sendnn_pipeline.errors import ServeError


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket; a file that a server left behind when it was killed is replaced.

    Raises:
        ServeError: it cannot be had.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ServeError(
            f"serve.uds={path} cannot be had: {error.strerror or error}",
            hint="name a new file in a folder that is there, with a path of at most 107 bytes",
        ) from None
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
