"""``serve=ray`` without Ray: its cluster is played, and the replica is real, its engine in a process of its own.

To install Ray takes longer than all of these tests; the plugin's README says what was tried on a real one.
"""

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sendnn_pipeline.errors import ConfigError
from tests.emulators import install as emulators
from tests.served import ECHO, ECHO_FOLDER, ROOT

KEY = {"authorization": "Bearer sesame"}


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """The plugin and the echo engine."""
    for folder in emulators.install(str(ROOT / "plugins" / "ray"), tmp_path / "site").split(os.pathsep):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(ECHO_FOLDER)


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class PlayedCluster:
    """Runs one replica while it is deployed, in a loop of its own, as Ray does, and plays a number of replicas.

    Args:
        question: asked of the replica's application, when it is there.
    """

    def __init__(self, question):
        self.question, self.calls, self.answers, self.codes = question, [], {}, []
        self.ended = asyncio.Event()

    @contextmanager
    def open(self, options, console):
        self.calls.append(f"open {options.address}")
        try:
            yield self
        finally:
            self.calls.append("close")

    def deploy(self, description, config):
        self.calls.append("deploy")
        self.description, self.config = description, config
        failed = []

        def run():
            try:
                asyncio.run(self.question(self, description, config))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    def exit(self, code):
        """Be told of the end of a replica's process."""
        self.codes.append(code)
        self.ended.set()

    def state(self):
        from sendnn_ray.cluster import State

        self.calls.append("state")
        states = [State(1), State(2), State(2, "unhealthy: a replica died")]
        if self.calls.count("state") > len(states):
            os.kill(os.getpid(), signal.SIGTERM)
        return states[min(self.calls.count("state"), len(states)) - 1]

    def remove(self):
        self.calls.append("remove")


@pytest.fixture
def play(in_process, tiny, free_port, monkeypatch):
    """Run the command line with a played cluster until SIGTERM; returns what ended, and the cluster."""

    def play(question, *words):
        from sendnn_ray import replica, target

        cluster = PlayedCluster(question)
        # A question that fails ends its replica, and a replica without an engine ends its process: this one.
        monkeypatch.setattr(replica.os, "_exit", cluster.exit)
        monkeypatch.setattr(target, "open_cluster", cluster.open)
        monkeypatch.setattr(target, "LOOK_SECONDS", 0.01)
        fixed = (*ECHO, f"model.path={tiny}", "serve=ray", f"serve.port={free_port}", *words)
        variables = {"SENDNN_PIPELINE_API_KEY": "sesame", "SENDNN_PIPELINE__MODEL__SERVED_NAME": "echoes"}
        return in_process(*fixed, **variables), cluster

    return play


@contextmanager
def asked(app):
    yield httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica", headers=KEY)


async def made(description, config):
    """Make a replica as Ray does: without its class being called."""
    from sendnn_ray.replica import Replica

    one = object.__new__(Replica)
    await one.__init__(description, config)
    return one


async def made_in_task(cluster, description, config):
    """Make a replica and no more."""
    await made(description, config)


async def ask_everything(cluster, description, config):
    """Ask a replica as Ray's proxy and controller do, and end it."""
    one = await made(description, config)
    await one.check_health()
    app = await one.__serve_build_asgi_app__()
    with asked(app) as client:
        for path in ("/live", "/ready", "/v1/models", "/info", "/metrics", "/nothing"):
            cluster.answers[path] = await client.get(path)
        cluster.answers["bare"] = await client.get("/v1/models", headers={"authorization": ""})
        cluster.answers["echo"] = await client.post("/v1/echo", json={"input": ["hello world"]})
        cluster.answers["stream"] = await client.post("/v1/echo", json={"input": "hello world", "stream": True})
        cluster.answers["refused"] = await client.post("/v1/echo", json={"input": []})
        cluster.answers["tokens"] = await client.post("/tokenize", json={"prompt": "hello world"})
        cluster.pid = cluster.answers["/info"].json()["engine"]["pid"]
    told, sent = iter(["startup", "shutdown"]), []

    async def receive():
        return {"type": f"lifespan.{next(told)}"}

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    cluster.after = one._offer.why_not_ready()


def test_a_run_is_deployed_followed_and_taken_back(play):
    ended, cluster = play(ask_everything, "serve.max_replicas=3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert cluster.calls == ["open local", "deploy", *["state"] * 4, "remove", "close"]
    said = ended.stdout[ended.stdout.index("serving ") :].splitlines()
    assert said[0].startswith("serving echoes at http://127.0.0.1:") and "/v1, ready in" in said[0]
    assert said[1:] == [
        "replicas 1 running",
        "replicas 2 running",
        "replicas 2 running, unhealthy: a replica died",
        "draining, at most 30 s; a second signal ends at once",
        "drained",
    ]
    answers = cluster.answers
    assert [answers[path].status_code for path in ("/live", "/ready", "/v1/models", "/info", "/metrics")] == [200] * 5
    # The variables of the run are the replica's: its key, and the name that it serves.
    assert not any("x-request-id" in answer.headers for answer in answers.values())
    assert answers["bare"].status_code == 401 and "sesame" not in repr(cluster.description)
    assert answers["/v1/models"].json()["data"][0]["id"] == "echoes"
    assert answers["echo"].json()["data"] == ["hello world"]
    assert [line for line in answers["stream"].text.splitlines() if "token" in line][:2] == [
        'data: {"token":"hello"}',
        'data: {"token":"world"}',
    ]
    assert answers["tokens"].json()["count"] > 0
    for name, status in (("refused", 400), ("/nothing", 404)):
        assert answers[name].status_code == status and set(answers[name].json()["error"]) >= {"message", "code"}
    samples = [
        sample for family in text_string_to_metric_families(answers["/metrics"].text) for sample in family.samples
    ]
    whose = f"{socket.gethostname()}:{os.getpid()}"
    assert len(samples) > 20 and {sample.labels["replica"] for sample in samples} == {whose}
    assert cluster.after == "the server is shutting down" and not psutil.pid_exists(cluster.pid)


async def lose_the_engine(cluster, description, config):
    """Kill a replica's engine, and wait for the end of its process, which is played."""
    one = await made(description, config)
    os.kill(one._offer.client.ready.engine["pid"], signal.SIGKILL)
    async with asyncio.timeout(10):
        await cluster.ended.wait()
    with pytest.raises(RuntimeError, match="the engine is gone: the engine process was killed by SIGKILL"):
        await one.check_health()


def test_a_replica_ends_with_its_engine(play):
    ended, cluster = play(lose_the_engine)
    assert ended.returncode == 0 and cluster.codes == [1]
    assert "error: the engine process was killed by SIGKILL" in ended.stderr


async def make_otherwise(cluster, description, config):
    """Make replicas where something else comes out, and where the engine fails."""
    with pytest.raises(
        ConfigError, match=r'model.served_name is "echoes" in this replica and "other" where .*set model'
    ):
        await made(description, replace(config, model=replace(config.model, served_name="other")))
    await made(replace(description, words=(*description.words, "engine.fail=load")), config)


def test_replicas_that_do_not_start(play):
    ended, cluster = play(make_otherwise)
    # The replica's own run has another key, and so it is refused before its engine fails.
    assert ended.returncode == 2 and cluster.calls == ["open local", "deploy", "remove", "close"]
    assert 'error: engine.fail is "load" in this replica and "" where the run was described' in ended.stderr
    failed, _ = play(made_in_task, "engine.fail=load")
    assert failed.returncode == 1 and "error: the load fails, as it was told to" in failed.stderr


def test_what_a_run_is_refused_for(in_process, tiny, free_port):
    words = (*ECHO, f"model.path={tiny}", "serve=ray")
    wrong = in_process(*words, "serve.min_replicas=4", "serve.uds=/tmp/here", "serve.resources=[spyre]")
    assert wrong.returncode == 2
    for line in ("max_replicas=1 is below serve.min_replicas=4", "serve.uds: Ray's proxy", "spyre is not a name"):
        assert line in wrong.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = in_process(*words, f"serve.port={port}")
    assert refused.returncode == 1 and f"serve.port={port} on 127.0.0.1 cannot be had" in refused.stderr
    swept = in_process("-m", *words, "engine.step_ms=1,2")
    assert swept.returncode == 2 and "serve.target=ray never ends" in swept.stderr


def test_what_ray_is_told():
    from sendnn_ray.cluster import deployment_options, reason_of
    from sendnn_ray.config import RayConfig

    fixed = deployment_options(RayConfig(min_replicas=2, max_replicas=2, cpus=3, drain_seconds=7))
    assert fixed["num_replicas"] == 2 and "autoscaling_config" not in fixed
    assert fixed["ray_actor_options"] == {"num_cpus": 3, "resources": {}}
    assert fixed["graceful_shutdown_timeout_s"] > 7
    scaled = deployment_options(RayConfig(max_replicas=5, resources=["spyre:2"]))
    assert scaled["autoscaling_config"]["max_replicas"] == 5 and "num_replicas" not in scaled
    assert scaled["ray_actor_options"]["resources"] == {"spyre": 2.0}
    traceback = "File x\nsendnn_pipeline.errors.EngineError: the load fails; look\nThe above\nlast"
    assert reason_of(traceback) == "the load fails; look" and reason_of("one\ntwo\n") == "two"
    assert reason_of("") == "it does not say why"
