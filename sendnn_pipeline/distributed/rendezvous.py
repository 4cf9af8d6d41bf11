"""Where ranks form their group: an address that node 0, often the only one, binds before any of them starts."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.config.schema import ParallelConfig
from sendnn_pipeline.distributed.addresses import (
    interface_to,
    is_loopback,
    join_address,
    listen_at,
    resolve_host,
    split_address,
    without_brackets,
)
from sendnn_pipeline.errors import ConfigError, EngineError

LOOPBACK = "127.0.0.1"
HOST, PORT = "MASTER_ADDR", "MASTER_PORT"
# As torchrun has it.
DEFAULT_PORT = 29500
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
    interface: str = ""
    """Of the network by which ranks reach each other; empty leaves it to gloo."""
    store: Any = None
    """That of torch at this address, where ranks of several machines have met already."""

    def __str__(self) -> str:
        return join_address(self.host, self.port)


def bind_rendezvous(environ: Mapping[str, str], timeout_minutes: int) -> Rendezvous:
    """Return a rendezvous at ``MASTER_ADDR`` and ``MASTER_PORT``; without them at a free port of the loopback.

    Raises:
        ConfigError: the port is not a number.
        EngineError: the address cannot be had.
    """
    host, port = without_brackets(environ.get(HOST) or LOOPBACK), environ.get(PORT) or "0"
    if not port.isdecimal():
        raise ConfigError(f"{PORT}={port} must be a number", hint=f"unset {HOST} and {PORT} to take a free port")
    hint = f"unset {HOST} and {PORT} to take a free port of this machine"
    listening = _bind(host, int(port), f"{HOST}={host} {PORT}={port}, where ranks meet", hint)
    interface = "lo" if is_loopback(host) else ""
    return Rendezvous(host, listening.getsockname()[1], timeout_minutes, listening, interface)


def meet_nodes(environ: Mapping[str, str], parallel: ParallelConfig) -> Rendezvous:
    """Return the rendezvous of several machines, bound on node 0.

    Raises:
        ConfigError: it is nowhere, or not a host and a port.
        EngineError: its host does not resolve, or node 0 cannot have it.
    """
    host, port = meeting_address(environ, parallel.rendezvous)
    # Before an interface to it is looked for, as a name that is nobody's is an error by itself.
    address = address_of(host)
    minutes, interface = parallel.gloo_timeout_minutes, environ.get(INTERFACE) or interface_to(address)
    if parallel.node_rank:
        return Rendezvous(host, port, minutes, None, interface)
    place = f"parallel.rendezvous={parallel.rendezvous}" if parallel.rendezvous else f"{HOST}={host} {PORT}={port}"
    hint = "name an address of this machine, node 0, and a port that is free, the same on all nodes"
    return Rendezvous(host, port, minutes, _bind(host, port, f"{place}, where nodes meet", hint), interface)


def _bind(host: str, port: int, place: str, hint: str) -> socket.socket:
    """Return a socket that listens; where it cannot, the place and the hint are the error."""
    try:
        return listen_at(host, port)
    except (OSError, OverflowError) as error:
        raise EngineError(f"{place}, cannot be had: {error}", hint=hint) from None


def meeting_address(environ: Mapping[str, str], text: str) -> tuple[str, int]:
    """Return host and port where the nodes of a run meet.

    Raises:
        ConfigError: nothing says it, or not as host and port.
    """
    of_torchrun = without_brackets(environ.get(HOST) or "")
    if not text and of_torchrun:
        found = split_address(join_address(of_torchrun, environ.get(PORT) or DEFAULT_PORT))
    else:
        found = split_address(text)
    if found is None:
        wrong = f"parallel.rendezvous={text} is not HOST:PORT" if text else "nothing says where the nodes of a run meet"
        form = "HOST:PORT of node 0, an IPv6 address as [ADDRESS]:PORT" if ":" in text else "HOST:PORT of node 0"
        raise ConfigError(wrong, hint=f"set parallel.rendezvous={form}, or {HOST} and {PORT}")
    return found


def address_of(host: str) -> str:
    """Return the address of a host.

    Raises:
        EngineError: it does not resolve.
    """
    try:
        return resolve_host(host)[1]
    except OSError as error:
        raise EngineError(f"{host}, where nodes meet, does not resolve: {error}", hint="use its address") from None
