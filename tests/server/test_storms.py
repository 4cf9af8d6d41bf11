"""Clients that are slow, huge, or leave: it costs them, not others, and nothing of them stays."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.served import ECHO, Served, with_echo

CLIENTS = 50
SECONDS = 0.5
TIMEOUTS = [f"serve.{wait}_timeout_seconds={SECONDS}" for wait in ("head", "body", "reading")]
HEAD = b"POST /v1/echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
# Of an answer that fits into no buffer of the kernel's.
MANY = json.dumps({"input": ["hello " * 60] * 1500}).encode()


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """The echo engine behind a server of little patience."""
    folder = tmp_path_factory.mktemp("tmp")
    with Served(*ECHO, f"model.path={tiny}", *TIMEOUTS, **with_echo(TMPDIR=str(folder))) as served:
        start_all_threads(served)
        yield served


def start_all_threads(served: Served) -> None:
    """Ask so much at once that no pool has threads to start later."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(served.post, "/v1/echo", json={"input": ["hello world " * 20] * 400}) for _ in range(8)]
    assert all(one.result().status_code == 200 for one in asked)


@pytest.fixture(autouse=True)
def nothing_stays(request):
    """See that the server has what it had before, and answers."""
    if "served" not in request.fixturenames:
        yield
        return
    served = request.getfixturevalue("served")
    assert ask(served).status_code == 200
    before = costs(served)
    yield
    ends = time.monotonic() + 20
    while (now := costs(served)) != before:
        assert time.monotonic() < ends, f"{now} is not {before}"
    assert ask(served).status_code == 200


def costs(served: Served) -> dict[str, float]:
    """Return what a server has of everything that storms could leave behind; one connection is the question's own."""
    process = psutil.Process(served.process.pid)
    waiting = [line for line in served.get("/metrics").text.splitlines() if line.startswith("vllm:num_requests_")]
    return {
        "files": process.num_fds() - len(connections(process)),
        "connections": sum(one.status != "TIME_WAIT" for one in connections(process)),
        "threads": process.num_threads(),
        "children": len(process.children()),
        "temporary files": len(list(Path(served.variables.get("TMPDIR", "/nowhere")).rglob("*"))),
        "requests": sum(float(line.split()[-1]) for line in waiting),
    }


def connections(process: psutil.Process) -> list:
    return [one for one in process.net_connections("tcp") if one.status != "LISTEN"]


def wait_until(true: Callable[[], bool], otherwise: str, seconds: float = 120) -> None:
    """Wait for what the server does by itself."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, otherwise
        time.sleep(0.05)


def ask(served: Served) -> httpx.Response:
    return served.post("/v1/echo", json={"input": "hello world"})


@contextlib.contextmanager
def connected(served: Served, count: int = CLIENTS, receive_bytes: int | None = None):
    """Connect so many clients."""
    host, port = served.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            if receive_bytes is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            client.connect((host, int(port)))
            clients.append(client)
        yield clients


def answers_until_closed(
    clients: list[socket.socket], seconds: float = 20, meanwhile=lambda client: None
) -> list[bytes]:
    """Read until the server closed every one; ``meanwhile`` is called over and over for those that are open."""
    answers, ends = dict.fromkeys(clients, b""), time.monotonic() + seconds
    left = set(clients)
    while left:
        assert time.monotonic() < ends, f"{len(left)} of {len(clients)} connections are open still"
        for client in select.select(list(left), [], [], 0.05)[0]:
            try:
                data = client.recv(65536)
            except ConnectionError:
                data = b""
            answers[client] += data
            if not data:
                left.discard(client)
        for client in left:
            with contextlib.suppress(ConnectionError):
                meanwhile(client)
    return list(answers.values())


def send_a_byte(client: socket.socket) -> None:
    client.send(b"x")


def test_clients_that_send_nothing_are_closed(served):
    with connected(served) as clients:
        assert answers_until_closed(clients) == [b""] * CLIENTS


def test_clients_that_send_nothing_more_are_closed(served):
    """Behind an answer, a line end now and then."""
    with connected(served) as clients:
        for client in clients:
            client.sendall(b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n")
        for answer in answers_until_closed(clients, meanwhile=lambda client: client.send(b"\r\n")):
            assert answer.startswith(b"HTTP/1.1 200")


def test_headers_byte_by_byte_are_given_up(served):
    with connected(served) as clients:
        for client in clients:
            client.sendall(HEAD + b"X-Slow: ")
        answers = answers_until_closed(clients, meanwhile=send_a_byte)
    assert all(answer.startswith(b"HTTP/1.1 408") and b"serve.head_timeout_seconds" in answer for answer in answers)


@pytest.mark.parametrize("framing", [b"Content-Length: 9000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n2328\r\n"])
def test_bodies_byte_by_byte_are_given_up(served, framing):
    with connected(served) as clients:
        for client in clients:
            client.sendall(HEAD + framing + b'{"input": "')
        answers = answers_until_closed(clients, meanwhile=send_a_byte)
    assert all(answer.startswith(b"HTTP/1.1 408") and b"serve.body_timeout_seconds" in answer for answer in answers)


def test_answers_that_nobody_reads_are_dropped(tiny):
    """Whole ones, and those to many questions in one write.

    The latter are more than any buffer of the kernel takes. The former may fit into one, which depends on the load:
    then the server is done with them, and the connection is one between requests.
    """
    words = (*ECHO, f"model.path={tiny}", f"serve.reading_timeout_seconds={SECONDS}", "serve.keep_alive_seconds=1")
    questions = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n" * 1000
    memory = []
    with Served(*words, **with_echo()) as served:
        process = psutil.Process(served.process.pid)
        for _ in range(3):
            with connected(served, 3, receive_bytes=4096) as clients:
                for client in clients[:1]:
                    client.sendall(HEAD + f"Content-Length: {len(MANY)}\r\n\r\n".encode() + MANY)
                for client in clients[1:]:
                    client.sendall(questions)
                wait_until(lambda: len(connections(process)) == 3, "connections are not accepted")
                wait_until(lambda: not connections(process), "connections are open still")
            memory.append(process.memory_info().rss)
        assert memory[2] - memory[1] < 20e6, memory
        assert ask(served).status_code == 200


@pytest.mark.parametrize(
    ("start", "more", "status"),
    [
        (b"GET /live HTTP/1.1\r\nX-Long: ", b"x" * 50_000, 431),
        (b"GET /live HTTP/1.1\r\n", b"X-One: of many\r\n" * 3000, 431),
        (b"GET /live?", b"x" * 50_000, 431),
        (b"GET /live HTTP/1.1\r\nX-Long: " + b"x" * 70_000, b"x" * 4096, 431),
        (b"GET /live?" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"", 414),
        (b"GET /live HTTP/1.1\r\n" + b"X-One: of many\r\n" * 101 + b"\r\n", b"", 431),
        (b"\x16\x03\x01 hello, this is no HTTP\r\n\r\n", b"", 400),
    ],
)
def test_heads_without_end_are_cut_off(served, start, more, status):
    sent = len(start)

    def send(client):
        nonlocal sent
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sent += client.send(more) if more else 0

    with connected(served, 1) as clients:
        clients[0].sendall(start)
        (answer,) = answers_until_closed(clients, meanwhile=send)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and json.loads(body)["error"]["message"], answer
    assert sent < 4_000_000


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 99000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5E69EC0\r\n"]
)
def test_a_body_past_the_limit_is_cut_off(served, framing):
    sent = 0

    def send(client):
        nonlocal sent
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sent += client.send(b"x" * 1_000_000)

    with connected(served, 1) as clients:
        clients[0].sendall(HEAD + framing)
        (answer,) = answers_until_closed(clients, meanwhile=send)
    assert answer.startswith(b"HTTP/1.1 413") and b"\r\nconnection: close" in answer.lower()
    assert sent < 30_000_000


@pytest.mark.parametrize("path", ["/nowhere", "/live", "/v1/echo"])
def test_a_large_body_behind_its_answer_is_cut_off(served, path):
    """Of routes that read none, and of one that refuses its type."""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: 9000000000\r\n\r\n"
    with connected(served, 1) as clients:
        clients[0].sendall(head.encode())
        (answer,) = answers_until_closed(clients, meanwhile=lambda client: client.sendall(b"x" * 100_000))
    assert answer.startswith(b"HTTP/1.1 4")


def test_a_small_body_behind_its_answer_leaves_the_connection(served):
    with connected(served, 1) as (client,):
        for _ in range(3):
            client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}}"):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404")
            client.sendall(b"hello")


def test_junk_behind_a_request_does_not_cost_its_answer(served):
    body = json.dumps({"input": ["hello"] * 500}).encode()
    with connected(served, 1) as clients:
        clients[0].sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body + b"junk\r\n\r\n")
        (answer,) = answers_until_closed(clients)
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


def test_clients_that_leave_at_every_moment(served):
    body = json.dumps({"input": ["hello world"] * 2000}).encode()
    whole = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    for part in (1, len(HEAD) - 3, len(whole) // 2, len(whole)):
        with connected(served) as clients:
            for client in clients:
                client.sendall(whole[:part])
    assert ask(served).status_code == 200


def test_an_upload_that_is_too_large_is_told_so(served):
    """By the real clients: they read the answer although they could not send all."""
    for content in (b"x" * 9_000_000, (b"x" * 1_000_000 for _ in range(60))):
        answer = served.post("/v1/echo", content=content)
        assert answer.status_code == 413 and "serve.max_body_bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "start", [b"", b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"]
)
def test_others_are_answered_beside_more_clients_than_there_is_room_for(tiny, start):
    """Clients that ask for nothing, ask no more, or do not come to an end."""
    words = (*ECHO, f"model.path={tiny}", "serve.max_connections=20")
    with Served(*words, **with_echo()) as served, connected(served, 60) as clients:
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(start)
        assert all(served.get(probe).status_code == 200 for probe in ("/live", "/ready", "/startup", "/health"))
        # Slow ones go once they were seen to be slow.
        ends = time.monotonic() + 20
        while (answer := ask(served)).status_code != 200:
            assert answer.status_code == 503 and time.monotonic() < ends, answer.text


def test_probes_are_answered_when_every_connection_is_at_work(tiny):
    words = (*ECHO, f"model.path={tiny}", "engine.hang=step", "serve.max_connections=5")
    with Served(*words, **with_echo()) as served, connected(served, 5) as clients:
        for client in clients:
            client.sendall(HEAD + b"Content-Length: 18\r\nExpect: 100-continue\r\n\r\n")
            # Said when the request is being read.
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            client.sendall(b'{"input": "hello"}')
        assert [served.get(probe).status_code for probe in ("/live", "/ready", "/health")] == [200] * 3
        refused = ask(served)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "serve.max_connections" in refused.json()["error"]["message"]


def test_few_files_leave_room_for_probes(tiny):
    """The limit of open files counts, too."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Served(*ECHO, f"model.path={tiny}", wait=False, **with_echo()) as served:
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (64, hard))
        served.wait_ready()
        served.wait_line(r"serve.max_connections=512 is cut to \d+")
        with connected(served, 100):
            assert [served.get(probe).status_code for probe in ("/live", "/ready")] == [200] * 2
            assert ask(served).status_code == 200
