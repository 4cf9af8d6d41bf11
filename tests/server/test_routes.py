"""The other routes of a real server."""

import re
import socket
from pathlib import Path

from tests.served import ECHO, Served, with_echo


def test_models_and_version(served_echo, tiny):
    models = served_echo.client().models.list().data
    assert [model.id for model in models] == [tiny.name]
    assert served_echo.client().models.retrieve(tiny.name).id == tiny.name
    assert served_echo.get("/v1/models").json()["data"][0]["max_model_len"] == 64
    assert served_echo.get("/version").json()["version"]


def test_tokenize_and_detokenize_are_inverse(served_minilm):
    answer = served_minilm.post("/tokenize", json={"prompt": "hello world", "return_token_strs": True}).json()
    assert answer["token_strs"] == ["[CLS]", "hello", "world", "[SEP]"] and answer["count"] == 4
    bare = served_minilm.post("/tokenize", json={"prompt": "hello world", "add_special_tokens": False}).json()
    assert bare["tokens"] == answer["tokens"][1:-1]
    assert served_minilm.post("/detokenize", json={"tokens": bare["tokens"]}).json() == {"prompt": "hello world"}
    assert served_minilm.post("/detokenize", json={"tokens": [10**9]}).status_code == 400


def test_info_has_limits_programs_and_measured_costs(served_tiny):
    info = served_tiny.get("/info").json()
    assert [program["name"] for program in info["programs"]] == [
        "pool[batch=1,len=16]",
        "pool[batch=4,len=16]",
        "pool[batch=4,len=48]",
    ]
    assert all(program["steps"][0]["ms"] > 0 for program in info["programs"])
    assert info["limits"]["max_input_tokens"] == 48
    assert {"load", "compile", "warmup"} <= info["startup"]["phases_seconds"].keys()


def test_probes(served_echo):
    for probe in ("/live", "/ready", "/startup", "/health"):
        assert served_echo.get(probe).status_code == 200, probe


def test_probes_answer_while_loading(tiny):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = (*ECHO, f"model.path={tiny}", "engine.hang=load", f"serve.port={port}")
    with Served(*words, wait=False, **with_echo()) as served:
        served.url = f"http://127.0.0.1:{port}"
        served.wait_line(r"load …")
        assert served.get("/live").status_code == 200
        assert served.get("/ready").status_code == served.get("/health").status_code == 503
        startup = served.get("/startup")
        assert startup.status_code == 503 and startup.json()["stage"] == "load"
        refused = served.post("/v1/echo", json={"input": "a text"})
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "loading" in refused.json()["error"]["message"]


def test_the_api_key_guards_everything_but_the_probes(tiny, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("secret-of-the-test\n")
    with Served(*ECHO, f"model.path={tiny}", f"serve.api_key_file={key}", **with_echo()) as served:
        assert served.get("/live").status_code == served.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/info", "/no-such-route"):
            refused = served.get(path)
            assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        assert served.post("/v1/echo", json={"input": "a"}).status_code == 401
        assert served.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert served.client(api_key="secret-of-the-test").models.list().data
        mine = {"Authorization": "Bearer secret-of-the-test"}
        assert served.post("/v1/echo", json={"input": "a"}, headers=mine).status_code == 200
        assert "secret-of-the-test" not in served.output + served.get("/info", headers=mine).text


def test_request_ids_are_echoed(served_echo):
    assert served_echo.get("/version", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    assert re.fullmatch(r"[0-9a-f]{32}", served_echo.get("/version").headers["x-request-id"])


def test_the_engine_s_threads_follow_the_variables(tiny):
    """As torch finds them when the engine imports it."""
    words = (*ECHO, f"model.path={tiny}")
    with Served(*words, **with_echo(SENDNN_INFERENCE_NUM_CPUS="1", OMP_NUM_THREADS="64")) as served:
        assert (
            served.get("/info").json()["engine"]["threads"] == "1" and "threads  1  (process.num_cpus" in served.output
        )
    variables = with_echo(SENDNN_INFERENCE_UPDATE_THREAD_CONFIG="0", OMP_NUM_THREADS="3")
    with Served(*words, **variables) as served:
        assert served.get("/info").json()["engine"]["threads"] == "3"
        assert "note: MKL_NUM_THREADS is unset" in served.output
