"""Where the files of images may come from: nowhere, unless it is allowed; and never from a private address."""

import base64
import contextlib
import http.server
import threading
import time

import pytest

from sendnn_pipeline.multimodal import fetch as fetching
from sendnn_pipeline.multimodal.fetch import Access, fetch, is_public
from sendnn_pipeline.multimodal.pictures import PictureError

DATA = b"some picture"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        """Answer."""
        kind, _, rest = self.path[1:].partition("?")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif kind == "picture":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA)
        elif kind in ("endless", "slow"):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    self.wfile.write(bytes(1000) if kind == "endless" else b".")
                    self.wfile.flush()
                    time.sleep(0 if kind == "endless" else 0.02)
        elif kind in ("dribble", "continue"):
            # Never the end of a head: a byte now and then, or one that says that there will be one.
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    self.wfile.write(b"x" if kind == "dribble" else b"HTTP/1.1 100 Continue\r\n\r\n")
                    self.wfile.flush()
                    time.sleep(0.05)
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(DATA)
        else:
            self.send_error(404)

    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def serving_pictures():
    """Yield host and port of what answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def host():
    with serving_pictures() as found:
        yield found


@pytest.fixture
def here_is_public(monkeypatch):
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")


ALLOWED = Access(("127.0.0.1", ".example.org"), max_bytes=100_000, seconds=0.4)


def refusal(url, access=ALLOWED):
    with pytest.raises(PictureError) as caught:
        fetch(url, access)
    return str(caught.value)


def test_a_data_url_is_read_whatever_is_allowed():
    encoded = base64.b64encode(DATA).decode()
    assert fetch(f"data:image/png;base64,{encoded}", Access()) == DATA
    assert "base64 is broken" in refusal("data:image/png;base64,@@@")
    assert "without base64" in refusal("data:image/svg+xml,<svg/>")
    assert "larger than 10 bytes" in refusal(f"data:;base64,{'A' * 40}", Access(max_bytes=10))


def test_hosts_are_refused_unless_they_are_allowed_and_public(host):
    assert "not in multimodal.allowed_domains" in refusal(f"http://{host}/picture", Access())
    assert "not in multimodal.allowed_domains" in refusal("http://example.org/picture")
    assert "not public" in refusal(f"http://{host}/picture")
    assert "neither a data URL" in refusal("ftp://127.0.0.1/picture")
    assert "neither a data URL" in refusal("picture.png")
    private = [
        "10.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "0.0.0.0",
    ]
    assert not any(map(is_public, private)) and is_public("93.184.215.14") and is_public("2606:2800:21f::1")


def test_what_is_allowed_is_fetched_and_redirects_are_judged_anew(host, here_is_public):
    assert fetch(f"http://{host}/picture", ALLOWED) == DATA
    assert fetch(f"http://{host}/redirect?/picture", ALLOWED) == DATA
    assert "not in multimodal.allowed_domains" in refusal(f"http://{host}/redirect?http://169.254.169.254/picture")
    assert "neither http nor https" in refusal(f"http://{host}/redirect?file:///etc/hostname")
    assert "redirected more than 3 times" in refusal(f"http://{host}/redirect?/redirect?/redirect?/redirect?/redirect")
    assert "status 404" in refusal(f"http://{host}/nothing")


def test_hosts_that_are_slow_or_never_end_are_left(host, here_is_public):
    assert "larger than 100,000 bytes" in refusal(
        f"http://{host}/endless", Access(("127.0.0.1",), max_bytes=100_000, seconds=60)
    )
    for how in ("slow", "dribble", "continue"):
        began = time.monotonic()
        assert "no answer within 0.4 s" in refusal(f"http://{host}/{how}")
        assert time.monotonic() - began < 2
    assert "cannot be fetched" in refusal("http://127.0.0.1:1/picture")
    assert "cannot be fetched: IncompleteRead" in refusal(f"http://{host}/cut")
    for url in (f"http://{host}/a\r\nb", "http://127.0.0.1:99999/a", "http://[::1/a", f"http://{host}/redirect?"):
        assert refusal(url)


def test_a_host_of_several_addresses_is_asked_at_the_first_that_answers(host, here_is_public, monkeypatch):
    name, port = host.split(":")
    entries = [(2, 1, 6, "", (address, int(port))) for address in ("127.0.0.9", name)]
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    monkeypatch.setattr(fetching.socket, "getaddrinfo", lambda *_, **__: entries)
    assert fetch(f"http://one.example.org:{port}/picture", ALLOWED) == DATA


def test_files_are_read_below_allowed_folders_alone(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out.png"
    inside.mkdir()
    (inside / "a b.png").write_bytes(DATA)
    outside.write_bytes(DATA)
    (inside / "link.png").symlink_to(outside)
    access = Access(folders=(inside,), max_bytes=100)
    assert fetch(f"file://{inside}/a%20b.png", access) == DATA
    assert "names no folder" in refusal(f"file://{inside}/a%20b.png")
    for path in (outside, inside / "link.png", inside / ".." / "out.png", inside, inside / "none.png"):
        assert "no file below a folder" in refusal(f"file://{path}", access)
    assert "larger than 3 bytes" in refusal(f"file://{inside}/a%20b.png", Access(folders=(inside,), max_bytes=3))
