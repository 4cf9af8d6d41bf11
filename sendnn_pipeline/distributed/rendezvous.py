"""Where ranks form their group: an address that node 0, often the only one, binds before any of them starts."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from sendnn_pipeline.config.schema import ParallelConfig
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


def bind_rendezvous(environ: Mapping[str, str], timeout_minutes: int) -> Rendezvous:
    """Return a rendezvous at ``MASTER_ADDR`` and ``MASTER_PORT``; without them at a free port of the loopback.

    Raises:
        ConfigError: the port is not a number.
        EngineError: the address cannot be had.
    """
    host, port = environ.get(HOST) or LOOPBACK, environ.get(PORT) or "0"
    if not port.isdecimal():
        raise ConfigError(f"{PORT}={port} must be a number", hint=f"unset {HOST} and {PORT} to take a free port")
    hint = f"unset {HOST} and {PORT} to take a free port of this machine"
    listening = _bind(host, int(port), f"{HOST}={host} {PORT}={port}, where ranks meet", hint)
    interface = "lo" if host == LOOPBACK else ""
    return Rendezvous(host, listening.getsockname()[1], timeout_minutes, listening, interface)


def meet_nodes(environ: Mapping[str, str], parallel: ParallelConfig) -> Rendezvous:
    """Return the rendezvous of several machines, bound on node 0.

    Raises:
        ConfigError: it is nowhere, or not a host and a port.
        EngineError: its host does not resolve, or node 0 cannot have it.
    """
    host, port = endpoint(environ, parallel.rendezvous)
    minutes, interface = parallel.gloo_timeout_minutes, environ.get(INTERFACE) or interface_to(host)
    if parallel.node_rank:
        return Rendezvous(host, port, minutes, None, interface)
    place = f"parallel.rendezvous={parallel.rendezvous}" if parallel.rendezvous else f"{HOST}={host} {PORT}={port}"
    hint = "name an address of this machine, node 0, and a port that is free, the same on all nodes"
    return Rendezvous(host, port, minutes, _bind(host, port, f"{place}, where nodes meet", hint), interface)


def _bind(host: str, port: int, place: str, hint: str) -> socket.socket:
    """Return a socket that listens; where it cannot, the place and the hint are the error."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise EngineError(f"{place}, cannot be had: {error}", hint=hint) from None


def endpoint(environ: Mapping[str, str], text: str) -> tuple[str, int]:
    """Return host and port where the nodes of a run meet.

    Raises:
        ConfigError: nothing says it, or not as host and port.
    """
    place = text or (f"{environ[HOST]}:{environ.get(PORT) or DEFAULT_PORT}" if environ.get(HOST) else "")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        wrong = f"parallel.rendezvous={text} is not HOST:PORT" if text else "nothing says where the nodes of a run meet"
        raise ConfigError(wrong, hint=f"set parallel.rendezvous=HOST:PORT of node 0, or {HOST} and {PORT}")
    return host, int(port)


def address_of(host: str) -> str:
    """Return the IPv4 address of a host.

    Raises:
        EngineError: it does not resolve.
    """
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise EngineError(f"{host}, where nodes meet, does not resolve: {error}", hint="use its address") from None


def interface_to(host: str) -> str:
    """Return the network interface by which this machine reaches a host; empty where none is known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            # Sends nothing.
            asking.connect((address_of(host), 9))
        except OSError:
            return ""
        own = asking.getsockname()[0]
    if ipaddress.ip_address(own).is_loopback:
        return "lo"
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, found in interfaces if own in (address.address for address in found)), "")
