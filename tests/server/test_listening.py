"""Where a server listens beside an address and a port: on a Unix socket, and over HTTPS."""

import contextlib
import signal
import socket
import ssl
import time

import httpx
import psutil
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from openai import OpenAI

from tests.served import EAGER_FLOAT32, ECHO, Served, with_echo

BODY = {"input": "hello"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate, who vouches for it, its key, and the key with a password."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"password")
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (folder / "locked.pem").write_bytes(text)
    return folder


def test_a_unix_socket_that_replaces_a_dead_one_and_goes_with_its_server(tiny, tmp_path, in_process):
    path = tmp_path / "http"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    words = (f"model.path={tiny}", f"serve.uds={path}")
    with Served(*ECHO, *words, wait=False, **with_echo()) as served:
        served.wait_line(f"at unix:{path}, ready")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert client.post("/v1/echo", json=BODY).json()["data"] == ["hello"]
            second = in_process(*EAGER_FLOAT32, *words)
            assert second.returncode == 1 and f"serve.uds={path} cannot be had: Address already in use" in second.stderr
            assert client.get("/live").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.exit_code() == 0 and not path.exists()


@pytest.mark.parametrize("path", ["/no/such/folder/http", f"/tmp/{'x' * 200}"])
def test_a_socket_that_cannot_be_had_is_one_line(tiny, path, in_process):
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", f"serve.uds={path}")
    assert ended.returncode == 1 and "serve.uds=" in ended.stderr and "Traceback" not in ended.stderr


def test_https(tiny, certificate):
    words = (f"serve.ssl_certfile={certificate / 'cert.pem'}", f"serve.ssl_keyfile={certificate / 'key.pem'}")
    with Served(*ECHO, f"model.path={tiny}", *words, wait=False, **with_echo()) as served:
        port = served.wait_line(r"at https://127.0.0.1:(\d+)/v1, ready")[1]
        trust = ssl.create_default_context(cafile=certificate / "authority.pem")
        with httpx.Client(verify=trust) as client:
            answer = client.post(f"https://localhost:{port}/v1/echo", json=BODY)
            listed = OpenAI(base_url=f"https://localhost:{port}/v1", api_key="none", http_client=client).models.list()
        assert answer.status_code == 200 and answer.json()["data"] == ["hello"]
        assert [model.id for model in listed.data] == [answer.json()["model"]]


def test_handshakes_that_never_end_have_a_time_and_leave_room_for_others(tiny, certificate):
    files = (f"serve.ssl_certfile={certificate / 'cert.pem'}", f"serve.ssl_keyfile={certificate / 'key.pem'}")
    words = (*files, "serve.head_timeout_seconds=2", "serve.max_connections=8")
    with Served(*ECHO, f"model.path={tiny}", *words, wait=False, **with_echo()) as served:
        port = int(served.wait_line(r"at https://127.0.0.1:(\d+)/v1, ready")[1])
        trust = ssl.create_default_context(cafile=certificate / "authority.pem")

        def is_answered():
            with httpx.Client(verify=trust) as client:
                return client.post(f"https://localhost:{port}/v1/echo", json=BODY).status_code == 200

        assert is_answered()
        before = psutil.Process(served.process.pid).num_fds()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
            for number, client in enumerate(clients):
                # Some say nothing, some are not TLS, some stop in the middle of a hello.
                with contextlib.suppress(ConnectionError):
                    client.sendall([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"][number % 3])
            assert is_answered()
            assert psutil.Process(served.process.pid).num_fds() - before <= 8 + 16
            began = time.monotonic()
            for client in clients:
                client.settimeout(10)
                with contextlib.suppress(ConnectionError):
                    while client.recv(1000):
                        pass
            assert time.monotonic() - began < 8 and is_answered()
        ends = time.monotonic() + 20
        while psutil.Process(served.process.pid).num_fds() > before:
            assert time.monotonic() < ends, "connections are open still"
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"certfile": "absent.pem", "keyfile": "key.pem"}, "No such file"),
        ({"certfile": "cert.pem"}, "cannot be used"),
        ({"certfile": "cert.pem", "keyfile": "locked.pem"}, "cannot be used"),
        ({"certfile": "key.pem", "keyfile": "key.pem"}, "cannot be used"),
        ({"keyfile": "key.pem"}, "has no certificate"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_line(tiny, certificate, files, message, in_process):
    words = [f"serve.ssl_{name}={certificate / file}" for name, file in files.items()]
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "serve.port=0", *words)
    assert ended.returncode == 1 and message in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
