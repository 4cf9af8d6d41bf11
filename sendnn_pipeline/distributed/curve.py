"""Sockets between machines: encrypted, and only for those who were told the key. Whatever else connects is refused."""

from typing import Any

import zmq

from sendnn_pipeline.distributed.addresses import join_address


def listen(socket: Any, ip: str) -> str:
    """Have a socket listen at a free port.

    Returns:
        Where, and the key: what to connect by.
    """
    public, socket.curve_secretkey = zmq.curve_keypair()
    socket.curve_publickey, socket.curve_server = public, True
    socket.ipv6 = ":" in ip
    socket.bind(f"tcp://{join_address(ip, '*')}")
    return f"{socket.getsockopt_string(zmq.LAST_ENDPOINT)} {public.decode()}"


def connect(socket: Any, told: str) -> None:
    """Connect a socket to one that listens, by what ``listen`` returned."""
    address, key = told.split()
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.curve_serverkey = key.encode()
    socket.ipv6 = "[" in address
    socket.connect(address)
