"""Every exchange over HTTP: its id, its count by route and status, its line in the log, and what a bug comes to."""

import asyncio
import json
import logging

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.server.exchange import Exchanges
from sendnn_pipeline.server.recent import RecentErrors
from tests.served import ECHO, Served, with_echo

COUNT = "sendnn_pipeline:http_requests_total"


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """The echo engine behind a key, with a log in JSON and a performance log."""
    folder = tmp_path_factory.mktemp("perf")
    perf = ("metrics.perf_log.enabled=true", f"metrics.perf_log.dir={folder}")
    words = (*ECHO, f"model.path={tiny}", "log=json", "log.level=debug", "serve.max_queue=4", *perf)
    with Served(*words, **with_echo(SENDNN_PIPELINE_API_KEY="key")) as served:
        served.folder = folder
        yield served


def records(served, **wanted):
    """Return the records that have the wanted fields."""
    found = [json.loads(line) for line in list(served.lines)]
    return [record for record in found if all(record.get(name) == value for name, value in wanted.items())]


def perf_lines(served, name):
    lines = (served.folder / "request_metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["request_id"] == name]


def count(served, route, status):
    lines = served.get("/metrics", headers=KEY).text.splitlines()
    start = f'{COUNT}{{route="{route}",status="{status}"}} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


KEY = {"Authorization": "Bearer key"}
ASK = {"input": "hello world"}
CASES = {
    "empty": ("/v1/echo", {"input": ""}, KEY, 400, "/v1/echo", "empty_input", "input is empty"),
    "no JSON": ("/v1/echo", None, KEY, 400, "/v1/echo", "invalid_json", "the body is not JSON"),
    "model": ("/v1/echo", ASK | {"model": "gpt"}, KEY, 404, "/v1/echo", "model_not_found", "no model gpt"),
    "too many": ("/v1/echo", {"input": ["a"] * 5}, KEY, 400, "/v1/echo", "invalid_value", "the whole queue"),
    "no key": ("/v1/echo", ASK, {}, 401, "/v1/echo", "invalid_api_key", "no API key"),
    "no route": ("/nowhere/1", ASK, KEY, 404, "other", "not_found", "no route POST /nowhere/1; /docs lists the"),
    "near route": ("/v1/ecko", ASK, KEY, 404, "other", "not_found", "no route POST /v1/ecko; did you mean /v1/echo?"),
    "method": ("/v1/models", ASK, KEY, 405, "/v1/models", "method_not_allowed", "does not take POST"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_is_logged_with_its_reason_and_counted(served, case):
    path, body, headers, status, route, code, reason = CASES[case]
    name, before = f"refused-{case}", count(served, route, status)
    content = b"{" if body is None else json.dumps(body).encode()
    answer = served.post(path, content=content, headers={**headers, "X-Request-Id": name})
    assert answer.status_code == status and answer.headers["x-request-id"] == name
    served.wait_line(f'"request_id": "{name}"')
    (record,) = records(served, request_id=name)
    assert record["message"] == f"POST {path}" and record["level"] == "info" and record["rank"] is None
    assert (record["route"], record["status"], record["code"]) == (route, status, code)
    assert reason in record["error"] and record["seconds"] >= 0
    assert count(served, route, status) == before + 1


def test_the_performance_log_says_why(served):
    served.post("/v1/echo", json={"input": ""}, headers={**KEY, "X-Request-Id": "perf-refused"})
    served.post("/v1/echo", json=ASK, headers={**KEY, "X-Request-Id": "perf-done"})
    (refused,) = perf_lines(served, "perf-refused")
    assert refused["finish_reason"] == "error" and (refused["route"], refused["status"]) == ("/v1/echo", 400)
    assert (refused["code"], refused["reason"]) == ("empty_input", "input is empty")
    (done,) = perf_lines(served, "perf-done")
    assert (done["finish_reason"], done["route"], done["status"]) == ("stop", "/v1/echo", 200)


def test_what_is_refused_is_no_success_of_the_engine(served):
    def successes():
        lines = served.get("/metrics", headers=KEY).text.splitlines()
        return {
            line.partition('finished_reason="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("vllm:request_success_total{")
        }

    before = successes()
    served.post("/v1/echo", json={"input": ""}, headers=KEY)
    served.post("/v1/echo", json=ASK, headers=KEY)
    after = successes()
    assert after["stop"] == before.get("stop", 0) + 1 and after.get("error", 0) == before.get("error", 0)


def test_answers_and_probes_are_not_logged_unless_asked_for(served):
    served.post("/v1/echo", json=ASK, headers={**KEY, "X-Request-Id": "quiet"})
    served.get("/ready", headers={"X-Request-Id": "probe"})
    served.post("/v1/echo", json={"input": ""}, headers={**KEY, "X-Request-Id": "loud"})
    served.wait_line('"request_id": "loud"')
    assert not records(served, request_id="quiet") and not records(served, request_id="probe")
    assert count(served, "/ready", 200) > 0


def test_both_processes_log_in_one_form(served):
    (edge,) = [record for record in records(served, rank=None) if "serving" in record["message"]]
    assert edge["level"] == "info" and edge["message"].endswith(" s")
    assert {record["message"] for record in records(served, rank=0)} >= {"load done", "compile done", "warmup done"}
    # The plan and the progress are records, too: every line of the output was read as JSON above.
    assert any(record["message"].startswith("backend") for record in records(served))


def test_the_access_log(tiny):
    with Served(*ECHO, f"model.path={tiny}", "log.access=true", **with_echo()) as served:
        served.get("/ready")
        served.get("/metrics")
        served.post("/v1/echo", json=ASK, headers={"X-Request-Id": "me"})
        match = served.wait_line(r"INFO    edge .*POST /v1/echo request_id=me route=/v1/echo status=200 seconds=0\.\d+")
        assert match and "GET /metrics" in served.output and "/ready" not in served.output


def test_the_error_that_ends_a_run_is_a_record_too(tiny):
    with Served(*ECHO, f"model.path={tiny}", "engine.fail=load", "log=json", wait=False, **with_echo()) as served:
        assert served.exit_code() == 1
    *rest, last = map(json.loads, served.lines)
    assert last["message"] == "the load fails, as it was told to" and last["level"] == "error"
    assert not [record for record in rest if record["level"] == "error"]


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["log=json", "serve.prt=1"], {}, "unknown key serve.prt"),
        (["log.format=json", "model.path=/nowhere"], {}, "/nowhere"),
        (["backend=egaer"], {"SENDNN_PIPELINE__log": "json"}, "did you mean eager?"),
    ],
)
def test_so_is_one_that_ends_it_before_it_begins_and_what_is_said_before(in_process, words, variables, message):
    ended = in_process(*words, SENDNN_INFERENCE_NOTHING="1", **variables)
    records = [json.loads(line) for line in ended.stderr.splitlines()]
    assert message in records[-1]["message"] and records[-1]["level"] == "error" and ended.returncode != 0
    assert any("SENDNN_INFERENCE_NOTHING" in record["message"] for record in records) and not ended.stdout


def ask_app(handler):
    """Ask an application of one route behind the middleware; returns the answer and the registry."""
    registry = CollectorRegistry()
    routes = [Route("/x", handler)]
    parts = {"metrics": Metrics(registry, "m", 8), "recent": RecentErrors()}
    middleware = [Middleware(Exchanges, **parts, routes=routes, log_all=False)]
    transport = httpx.ASGITransport(Starlette(routes=routes, middleware=middleware))

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/x", headers={"X-Request-Id": "me"})

    return lambda: asyncio.run(ask()), registry


def test_a_bug_is_answered_with_an_id_and_logged_with_its_traceback_once(caplog):
    async def broken(_):
        raise ZeroDivisionError("a secret path")

    ask, registry = ask_app(broken)
    answer = ask()
    assert answer.status_code == 500 and answer.headers["x-request-id"] == "me" and "secret" not in answer.text
    assert registry.get_sample_value(COUNT, {"route": "/x", "status": "500"}) == 1
    # Another server may run in a thread of this process.
    crash, line = [record for record in caplog.records if record.name.startswith("sendnn_pipeline.server")]
    assert crash.exc_info[0] is ZeroDivisionError and line.levelno == logging.ERROR
    assert line.fields["status"] == 500 and line.fields["code"] == "internal_error"


def test_a_bug_in_the_middle_of_an_answer_ends_the_connection():
    async def parts():
        yield b"a"
        raise ZeroDivisionError

    async def broken(_):
        return StreamingResponse(parts())

    ask, registry = ask_app(broken)
    with pytest.raises(ZeroDivisionError):
        ask()
    assert registry.get_sample_value(COUNT, {"route": "/x", "status": "200"}) == 1
