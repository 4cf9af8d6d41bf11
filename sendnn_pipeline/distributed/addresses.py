"""Hosts and ports as users write them and as sockets take them, of IPv4 and of IPv6."""

import ipaddress
import socket

import psutil


def split_address(text: str) -> tuple[str, int] | None:
    """Return host and port of ``HOST:PORT``, an IPv6 address in brackets; None where it is not of that form."""
    host, _, port = text.rpartition(":")
    bare = without_brackets(host)
    if not bare or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and bare == host):
        return None
    return bare, int(port)


def join_address(host: str, port: int | str) -> str:
    """Return ``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def without_brackets(host: str) -> str:
    """Return a host, an IPv6 address without its brackets."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def resolve_host(host: str) -> tuple[socket.AddressFamily, str]:
    """Return an address of a host, of IPv4 where it has one, as all machines have to take the same.

    Raises:
        OSError: it does not resolve.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, str(address[0])


def listen_at(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the host does not resolve, or is not this machine, or the port is taken.
        OverflowError: there is no such port.
    """
    family, address = resolve_host(host)
    return socket.create_server((address, port), family=family)


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine alone; a name is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def interface_to(host: str) -> str:
    """Return the network interface by which this machine reaches a host; empty where none is known.

    Raises:
        OSError: it does not resolve.
    """
    family, address = resolve_host(host)
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            # Sends nothing.
            asking.connect((address, 9))
        except OSError:
            return ""
        own = str(asking.getsockname()[0])
    if is_loopback(own):
        return "lo"
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, found in interfaces if own in (one.address.partition("%")[0] for one in found)), "")
