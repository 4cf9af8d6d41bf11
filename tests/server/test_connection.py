"""Requests as they come: with offers of other protocols, in parts, several at once."""

import socket

import pytest

BODY = b'{"input": "hello world"}'
PLAIN = b"POST /v1/echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
OFFERS = {
    "HTTP/2, as of Java": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
}


@pytest.fixture
def client(served_echo):
    host, port = served_echo.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        yield client


def answers(client: socket.socket, count: int) -> list[bytes]:
    """Read until so many answers are complete."""
    read = b""
    while read.count(b'"usage"') < count:
        data = client.recv(65536)
        assert data, read
        read += data
    assert read.count(b"HTTP/1.1 200 OK") == count
    return read.split(b"HTTP/1.1 200 OK")[1:]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("cuts", [(), (-5,), (60, -len(BODY)), (-len(BODY) - 1,), (-len(BODY) - 2, 3)])
def test_an_offer_of_another_protocol_is_ignored(client, offer, cuts):
    whole = PLAIN + OFFERS[offer] + b"\r\n" + BODY
    for _ in range(2):
        begin = 0
        for cut in (*sorted(cut % len(whole) for cut in cuts), len(whole)):
            client.sendall(whole[begin:cut])
            begin = cut
        assert b"hello world" in answers(client, 1)[0]


def test_several_at_once_are_answered_in_their_order(client):
    bodies = [b'{"input": "%c"}' % letter for letter in b"abcdef"]
    offer = OFFERS["TLS"]
    client.sendall(
        b"".join(
            b"POST /v1/echo HTTP/1.1\r\nHost: test\r\nContent-Length: 14\r\n%s\r\n%s"
            % (offer if odd % 2 else b"", body)
            for odd, body in enumerate(bodies)
        )
    )
    assert [answer.split(b'"data":["')[1][:1] for answer in answers(client, 6)] == [
        b"%c" % letter for letter in b"abcdef"
    ]


def test_no_proxy_is_offered(client):
    client.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 400")
