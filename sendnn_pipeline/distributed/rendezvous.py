"""Where the ranks of one machine form their group: an address that is bound before any of them starts."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sendnn_pipeline.errors import ConfigError, EngineError

LOOPBACK = "127.0.0.1"
HOST, PORT = "MASTER_ADDR", "MASTER_PORT"
# What gloo takes for its own sockets; without it, it asks for the host's name, which need not resolve.
INTERFACE = "GLOO_SOCKET_IFNAME"


@dataclass(frozen=True)
class Rendezvous:
    """An address that the first rank listens at."""

    host: str
    port: int
    timeout_minutes: int
    """How long ranks wait for each other, here and in every exchange of tensors."""
    listening: socket.socket | None = None
    """Bound to it; of the first rank alone."""


def bind_rendezvous(environ: Mapping[str, str], timeout_minutes: int) -> Rendezvous:
    """Return a rendezvous at ``MASTER_ADDR`` and ``MASTER_PORT``; without them at a free port of the loopback.

    Raises:
        ConfigError: the port is not a number.
        EngineError: the address cannot be had.
    """
    host, port = environ.get(HOST) or LOOPBACK, environ.get(PORT) or "0"
    if not port.isdecimal():
        raise ConfigError(f"{PORT}={port} must be a number", hint=f"unset {HOST} and {PORT} to take a free port")
    try:
        listening = socket.create_server((host, int(port)))
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"{HOST}={host} {PORT}={port}, where ranks meet, cannot be had: {error}",
            hint=f"unset {HOST} and {PORT} to take a free port of this machine",
        ) from None
    return Rendezvous(host, listening.getsockname()[1], timeout_minutes, listening)
