"""The other routes of a real server."""

import re
from pathlib import Path

from tests.served import Served


def test_models_and_version(served_tiny, tiny):
    models = served_tiny.client().models.list().data
    assert [model.id for model in models] == [tiny.name]
    assert served_tiny.client().models.retrieve(tiny.name).id == tiny.name
    assert served_tiny.get("/v1/models").json()["data"][0]["max_model_len"] == 48
    assert served_tiny.get("/version").json()["version"]


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


def test_probes(served_tiny):
    for probe in ("/live", "/ready", "/startup", "/health"):
        assert served_tiny.get(probe).status_code == 200, probe


def test_probes_answer_while_loading(tiny):
    with Served("model=local", f"model.path={tiny}", "backend=eager", "serve.port=18231", wait=False) as served:
        served.url = "http://127.0.0.1:18231"
        served.wait_line(r"load …")
        assert served.get("/live").status_code == 200
        assert served.get("/ready").status_code == 503
        startup = served.get("/startup")
        assert startup.status_code == 503 and startup.json()["stage"] == "load"
        refused = served.post("/v1/embeddings", json={"input": "a text"})
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert "loading" in refused.json()["error"]["message"]
        served.wait_ready()
        assert served.get("/ready").status_code == 200


def test_the_api_key_guards_everything_but_the_probes(tiny, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("secret-of-the-test\n")
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]", f"serve.api_key_file={key}")
    with Served(*words) as served:
        assert served.get("/live").status_code == served.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/info", "/no-such-route"):
            refused = served.get(path)
            assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
        assert served.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert served.client(api_key="secret-of-the-test").models.list().data
        assert "secret-of-the-test" not in served.output
        assert (
            "secret-of-the-test" not in served.get("/info", headers={"Authorization": "Bearer secret-of-the-test"}).text
        )


def test_request_ids_are_echoed(served_tiny):
    assert served_tiny.get("/version", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    assert re.fullmatch(r"[0-9a-f]{32}", served_tiny.get("/version").headers["x-request-id"])


def test_the_engine_s_threads_follow_the_variables(tiny):
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]")
    with Served(*words, SENDNN_INFERENCE_NUM_CPUS="1", OMP_NUM_THREADS="64") as served:
        assert served.get("/info").json()["engine"]["threads"] == 1
    with Served(*words, SENDNN_INFERENCE_UPDATE_THREAD_CONFIG="0", OMP_NUM_THREADS="1") as served:
        assert served.get("/info").json()["engine"]["threads"] == 1
        assert "note: MKL_NUM_THREADS is unset" in served.output
