"""A hub on loopback, and caches that other programs filled in part."""

import hashlib
import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ModelError
from sendnn_pipeline.models import sources
from sendnn_pipeline.models.sources import HubSource

COMMIT = "c" * 40
MODEL = ModelConfig(path="org/tiny")


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """The tiny model on a hub; yields what was asked for."""
    from huggingface_hub import constants

    files = {str(file.relative_to(tiny)): file.read_bytes() for file in tiny.rglob("*") if file.is_file()}
    files["pytorch_model.bin"] = b"never"
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer()

        def answer(self, body=True):
            path = self.path.partition("?")[0]
            asked.append(path)
            headers, content = {}, None
            if path.endswith("/revision/main"):
                content = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": []}).encode()
            elif "/tree/" in path:
                rows = [{"type": "file", "path": n, "size": len(c), "oid": oid(c)} for n, c in files.items()]
                content = json.dumps(rows).encode()
            elif f"/resolve/{COMMIT}/" in path:
                content = files.get(path.partition(f"/resolve/{COMMIT}/")[2])
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{oid(content or b"")}"'}
            self.send_response(404 if content is None else 200)
            for name, value in {**headers, "Content-Length": str(len(content or b""))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


def oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def partly(tiny: Path, cache: Path, *names: str) -> Path:
    """Leave single files of the model in the cache, as other programs do."""
    storage = cache / "models--org--tiny"
    snapshot = storage / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    for name in names:
        (snapshot / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(tiny / name, snapshot / name)
    return snapshot


AS_AUTO_MODEL = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.mark.parametrize("names", [(), ("config.json",), AS_AUTO_MODEL])
def test_what_is_in_the_cache_in_part_is_fetched_whole(hub, tiny, tmp_path, names):
    partly(tiny, tmp_path / "hub", *names)
    source = HubSource()
    assert source.locate(MODEL, tmp_path) is None, "it is not here"
    folder = source.fetch(MODEL, tmp_path)
    assert (folder / "modules.json").is_file() and (folder / "1_Pooling" / "config.json").is_file()
    assert not (folder / "pytorch_model.bin").exists() and source.notices == ()
    hub.clear()
    assert HubSource().locate(MODEL, tmp_path) == folder and hub == [], "now it is, and nobody is asked"
    (folder / "modules.json").unlink()
    assert HubSource().locate(MODEL, tmp_path) is None


def test_without_the_hub_a_cache_is_taken_and_that_is_said(hub, tiny, tmp_path, context, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = partly(tiny, tmp_path / "hub", *AS_AUTO_MODEL)
    composed = compose_run(context, parse_overrides(["model=local", "model.path=org/tiny"]))
    assert composed.locate() is None and composed.fetch() == snapshot
    (notice,) = [line for line in composed.draft.notices if "the hub cannot be reached" in line]
    assert notice.endswith("is not known; it has no modules.json")


def test_without_the_hub_a_part_that_does_not_run_is_named(hub, tiny, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    partly(tiny, tmp_path / "hub", "config.json")
    with pytest.raises(ModelError, match=r"holds a part of org/tiny, without tokenizer.json, \*.safetensors"):
        HubSource().fetch(MODEL, tmp_path)


def test_a_hub_that_never_answers_is_given_up_and_named(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(sources, "HUB_SECONDS", 0.5)
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"org/tiny cannot be fetched .* does not answer within 0.5 s"):
            HubSource().fetch(MODEL, tmp_path)
        assert time.monotonic() - began < 5
