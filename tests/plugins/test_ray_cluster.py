"""``serve=ray`` on a real Ray of two nodes: a replica is placed on the second one, serves there, and ends with the run.

Half a minute, of which Ray itself takes nearly all. Ray is installed by hand (`pip install ./plugins/ray`): it is no
part of what the other tests need.
"""

import os
import socket
from contextlib import contextmanager
from importlib.util import find_spec

import httpx
import psutil
import pytest

from tests.emulators.install import install
from tests.in_process import signals_restored
from tests.leaks import is_free, is_gone, shared_memory, wait_for
from tests.served import ECHO, ECHO_FOLDER, ROOT, Served

# Ray Serve brings it, and Ray by itself does not.
pytestmark = pytest.mark.skipif(not (find_spec("ray") and find_spec("grpc")), reason="Ray Serve is not installed")


@contextmanager
def two_nodes(paths, monkeypatch):
    """Start a cluster of two nodes on this machine, of which only the second has room for a replica."""
    from ray.cluster_utils import Cluster

    for name, text in {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}.items():
        monkeypatch.setenv(name, text)
    node = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1, resources={"room": 1}, object_store_memory=80 * 2**20)
        cluster.wait_for_nodes()
        yield cluster, second
    finally:
        cluster.shutdown()


def test_a_replica_on_another_node_of_ray_serves_and_ends_with_the_run(tiny, tmp_path, monkeypatch):
    paths = os.pathsep.join([install(str(ROOT / "plugins" / "ray"), tmp_path / "site"), str(ECHO_FOLDER), str(ROOT)])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    words = (*ECHO, f"model.path={tiny}", "serve=ray", f"serve.port={port}", "serve.resources=[room:1]")
    before = shared_memory()
    # Ray takes the signals of a process that starts its nodes.
    with signals_restored(), two_nodes(paths, monkeypatch) as (cluster, second):
        words = (*words, f"serve.address={cluster.address}", "model.served_name=echoes")
        with Served(*words, PYTHONPATH=paths) as served:
            answer = httpx.post(f"{served.url}/v1/echo", json={"input": ["hello", "world"]}, timeout=60)
            assert answer.json()["data"] == ["hello", "world"]
            engine = psutil.Process(served.get("/info").json()["engine"]["pid"])
            # The engine is a child of its replica, and that of the agent of its node.
            raylet = second.all_processes["raylet"][0].process.pid
            assert raylet in {parent.pid for parent in engine.parents()}
            assert 'replica="' in served.get("/metrics").text and served.get("/ready").status_code == 200
            served.terminate()
            assert served.exit_code(60) == 0, served.output
            assert "drained" in served.output
        wait_for(lambda: is_gone(engine))
    wait_for(lambda: is_free(port) and shared_memory() <= before, 60)
