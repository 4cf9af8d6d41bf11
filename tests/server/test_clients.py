"""Clients that do nothing wrong: protocols they offer, connections they keep, pages in browsers, keys, paths."""

import socket
from http.client import HTTPConnection

import pytest

from sendnn_pipeline.config.serving import ServeConfig
from tests.served import ECHO, Served, with_echo

BODY = {"input": "hello"}


@pytest.fixture(scope="module")
def guarded(tiny, tmp_path_factory):
    """A server with two keys, an origin, a prefix and short patience."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("first-key\nsecond-key\n")
    words = (f"serve.api_key_file={keys}", "serve.allowed_origins=[https://page.example]", "serve.root_path=/echo/")
    words += ("model.served_name=echo", "model.aliases=[org/echo,other]")
    with Served(*ECHO, f"model.path={tiny}", *words, "serve.keep_alive_seconds=1", **with_echo()) as served:
        yield served


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2"])
def test_an_offer_to_speak_another_protocol_is_ignored(served_echo, protocol):
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": protocol, "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAA"}
    answer = served_echo.post("/v1/echo", json=BODY, headers=headers)
    assert answer.status_code == 200 and answer.json()["data"] == ["hello"], answer.text
    assert served_echo.get("/version", headers=headers).status_code == 200
    assert "upgrade" not in served_echo.output


def test_a_connection_outlives_the_idle_time_of_proxies(guarded):
    assert ServeConfig().keep_alive_seconds > 75
    host, port = guarded.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=60)
    for _ in range(2):
        connection.request("GET", "/live")
        assert connection.getresponse().read()
    assert isinstance(connection.sock, socket.socket) and connection.sock.recv(1) == b""
    connection.close()


def test_a_page_of_an_allowed_origin_may_ask(guarded, served_echo):
    origin = {"Origin": "https://page.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = guarded.session.request("OPTIONS", f"{guarded.url}/v1/echo", headers=origin | asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    key = {"Authorization": "Bearer first-key"}
    answer = guarded.post("/v1/echo", json=BODY, headers=origin | key)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    refused = guarded.post("/v1/echo", json=BODY, headers=origin)
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "https://page.example"
    other = {"Origin": "https://other.example"}
    stranger = guarded.session.request("OPTIONS", f"{guarded.url}/v1/echo", headers=other | asks)
    assert stranger.status_code == 400 and "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-origin" not in served_echo.post("/v1/echo", json=BODY, headers=origin).headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("Bearer first-key", 200),
        ("bearer second-key", 200),
        ("BEARER   first-key", 200),
        ("Bearer third-key", 401),
        ("Basic first-key", 401),
        ("first-key", 401),
        ("Bearer", 401),
    ],
)
def test_any_of_the_keys_and_the_scheme_in_any_case(guarded, sent, status):
    assert guarded.get("/v1/models", headers={"Authorization": sent}).status_code == status


def test_routes_are_below_the_prefix_and_at_the_root(guarded):
    key = {"Authorization": "Bearer first-key"}
    for prefix in ("", "/echo"):
        assert guarded.post(f"{prefix}/v1/echo", json=BODY, headers=key).json()["data"] == ["hello"], prefix
        assert guarded.get(f"{prefix}/live").status_code == 200 and guarded.get(f"{prefix}/info").status_code == 401
    assert guarded.get("/echoes/live", headers=key).status_code == 404


def test_several_names_are_one_model(guarded):
    client = guarded.client(api_key="first-key")
    assert [card.id for card in client.models.list().data] == ["echo", "org/echo", "other"]
    assert client.models.retrieve("org/echo").id == "org/echo"
    key = {"Authorization": "Bearer first-key"}
    for name in ("echo", "org/echo", "other"):
        assert guarded.post("/v1/echo", json=BODY | {"model": name}, headers=key).json()["model"] == "echo"
    assert guarded.post("/v1/echo", json=BODY | {"model": "tiny"}, headers=key).status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ping_is_a_probe(guarded, method):
    assert guarded.session.request(method, f"{guarded.url}/ping").status_code == 200
