"""Ranks on several machines, each of which somebody starts; here all are this one, on the loopback."""

import json
import socket
from dataclasses import replace

import psutil
import pytest

from sendnn_pipeline.config.schema import ParallelConfig
from sendnn_pipeline.distributed.addresses import interface_to, join_address, resolve_host, split_address
from sendnn_pipeline.distributed.nodes import difference
from sendnn_pipeline.distributed.rendezvous import bind_rendezvous, meet_nodes, meeting_address
from sendnn_pipeline.errors import ConfigError, EngineError
from tests.conftest import clean_environ, resolved_run
from tests.engines.test_echo_ranks import ask
from tests.leaks import Leaks, shared_memory, wait_for
from tests.served import EAGER_FLOAT32, ECHO, Served, with_echo

TWO = ("parallel.tensor_parallel=2", "parallel.nnodes=2", "process.num_cpus=1")


@pytest.fixture
def place():
    """Where two nodes meet: a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"parallel.rendezvous=127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def words(tiny, place):
    """The words of a run of the echo engine on two nodes."""
    return (*ECHO, *TWO, place, f"model.path={tiny}", "engine.step_ms=1")


def other(*words, **options):
    """Return the second node, which is not waited for."""
    return Served(*words, "parallel.node_rank=1", wait=False, **options)


def ranks_of(served):
    """Return the processes of the ranks that a node started."""
    children = psutil.Process(served.process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_two_nodes_answer_drain_and_end_together(words):
    with other(*words, **with_echo()) as second, Served(*words, **with_echo()) as first:
        assert ask(first).json()["data"] == ["hello"]
        second.wait_line("node 1 of 2 is warm; node 0 serves")
        with other(*words, **with_echo()) as again:
            assert again.exit_code(60) == 1
            assert "error: node 1 came to 127.0.0.1:" in again.lines[-1]
        assert len(ranks_of(first)) == len(ranks_of(second)) == 1
        second.terminate()
        second.wait_line("ends with node 0, once that has drained")
        assert ask(first).json()["data"] == ["hello"]
        first.terminate()
        assert first.exit_code() == 0 and second.exit_code() == 0
        assert "node 1 of 2 is done, as node 0 is" in second.output
        assert "Traceback" not in first.output + second.output


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_that_is_killed_is_named_and_the_other_is_gone_within_seconds(words, lost):
    before = shared_memory()
    with other(*words, **with_echo()) as second, Served(*words, **with_echo()) as first:
        assert ask(first).status_code == 200
        nodes = (first, second)
        leaks = [Leaks(node, before) for node in nodes]
        # Of node 0 more than its HTTP server listens: the rendezvous, and what ranks and nodes tell each other by.
        assert len(leaks[0].ports) >= 4
        nodes[lost].process.kill()
        assert nodes[1 - lost].exit_code(20) == 1
        assert f"node {lost} is gone" in nodes[1 - lost].output
    for of_node in leaks:
        of_node.check_nothing()


def test_a_rank_that_dies_is_named_on_both_nodes(words):
    before = shared_memory()
    with other(*words, **with_echo()) as second, Served(*words, **with_echo()) as first:
        leaks = [Leaks(node, before) for node in (first, second)]
        ranks_of(second)[0].kill()
        assert first.exit_code(20) == second.exit_code(20) == 1
        assert "the process of rank 1 was killed by SIGKILL" in second.output
        assert "node 1: the process of rank 1 was killed by SIGKILL" in first.output
    for of_node in leaks:
        of_node.check_nothing()


def test_nodes_are_started_again_together(words):
    words = (*words, "parallel.on_worker_death=restart", "parallel.max_restarts=1")
    with other(*words, **with_echo()) as second, Served(*words, **with_echo()) as first:
        second.wait_line("node 1 of 2 is warm")
        ranks_of(second)[0].kill()
        wait_for(lambda: first.get("/ready").status_code == 503)
        wait_for(lambda: first.get("/ready").status_code == 200, 60)
        assert ask(first).json()["data"] == ["hello"]
        assert "node 1: the process of rank 1 was killed by SIGKILL" in first.output
        first.terminate()
        assert first.exit_code() == 0 and second.exit_code() == 0


def test_a_node_that_is_started_again_ends_where_node_0_stays_away(words):
    words = (*words, "parallel.on_worker_death=restart", "parallel.join_timeout_seconds=8")
    with other(*words, **with_echo()) as second, Served(*words, **with_echo()) as first:
        second.wait_line("node 1 of 2 is warm")
        first.process.kill()
        assert second.exit_code(60) == 1
        assert second.output.count("starting it again in") == 1
        assert "error: node 0 does not answer at 127.0.0.1:" in second.lines[-1]


def test_a_node_that_does_not_come_is_one_line(words):
    words = (*words, "parallel.join_timeout_seconds=2")
    with Served(*words, wait=False, **with_echo()) as first:
        assert first.exit_code(60) == 1
        assert "error: rank 0: node 1 did not come to 127.0.0.1:" in first.output
        assert "within 2 s; start it with its parallel.node_rank" in first.lines[-1]
    with other(*words, **with_echo()) as second:
        assert second.exit_code(60) == 1
        assert "error: node 0 does not answer at 127.0.0.1:" in second.lines[-1]


@pytest.mark.parametrize(
    ("key", "there", "here"), [("engine.step_ms", "2.0", "1.0"), ("artifacts.enabled", "false", "true")]
)
def test_a_node_of_another_run_is_refused_with_what_differs(words, key, there, here):
    with (
        other(*words, f"{key}={there}", **with_echo()) as second,
        Served(*words, wait=False, **with_echo()) as first,
    ):
        assert first.exit_code(60) == second.exit_code(60) == 1
        says = f"node 1 is of another run: {key} is {there} there and {here} on node 0"
        assert says in first.output and says in second.output


@pytest.fixture
def place_of_ipv6():
    """The same at an address of IPv6."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        return f'parallel.rendezvous="[::1]:{listening.getsockname()[1]}"'


def test_two_nodes_meet_at_an_address_of_ipv6_and_answer_as_one_does(llama, place_of_ipv6):
    words = (*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=2", "warmup.remeasure=false")
    body = {"prompt": ["the assert statement", "if"], "max_tokens": 12, "temperature": 0}
    with Served(*words) as one:
        wanted = one.session.post(f"{one.url}/v1/completions", json=body).json()["choices"]
    words = (*words, *TWO, place_of_ipv6)
    with other(*words) as second, Served(*words) as first:
        assert first.session.post(f"{first.url}/v1/completions", json=body).json()["choices"] == wanted
        first.terminate()
        assert first.exit_code() == second.exit_code() == 0, second.output


def test_what_differs_is_the_first_field():
    ours = {"torch": "2.13", "scheduler.max_num_seqs": json.dumps(4)}
    assert difference(ours, dict(ours), 3) == ""
    assert difference(ours, {**ours, "scheduler.max_num_seqs": "8"}, 3) == (
        "node 3 is of another run: scheduler.max_num_seqs is 8 there and 4 on node 0"
    )
    assert difference(ours, {**ours, "more": "1"}, 1).endswith("more is 1 there and missing on node 0")


@pytest.mark.parametrize(
    ("environ", "text", "found"),
    [
        ({"MASTER_ADDR": "x", "MASTER_PORT": "9"}, "head:1234", ("head", 1234)),
        ({"MASTER_ADDR": "10.0.0.1"}, "", ("10.0.0.1", 29500)),
        ({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "12345"}, "", ("10.0.0.1", 12345)),
        ({}, "[::1]:29500", ("::1", 29500)),
        ({"MASTER_ADDR": "fd00::2", "MASTER_PORT": "12345"}, "", ("fd00::2", 12345)),
        ({"MASTER_ADDR": "[fd00::2]"}, "", ("fd00::2", 29500)),
    ],
)
def test_where_nodes_meet_is_said_by_key_or_as_torchrun_has_it(environ, text, found):
    assert meeting_address(environ, text) == found and split_address(join_address(*found)) == found


@pytest.mark.parametrize(
    ("environ", "text", "says"),
    [
        ({}, "", "nothing says where"),
        ({"MASTER_ADDR": "x", "MASTER_PORT": "y"}, "", "nothing says where"),
        ({}, "head", "head is not HOST:PORT; set parallel.rendezvous=HOST:PORT of node 0, or MASTER_ADDR"),
        ({}, "head:70000", "head:70000 is not HOST:PORT"),
        ({}, "[]:29500", "is not HOST:PORT"),
        ({}, "fd00::2:29500", r"an IPv6 address as \[ADDRESS\]:PORT, or MASTER_ADDR"),
    ],
)
def test_a_place_to_meet_that_is_none_is_refused(environ, text, says):
    with pytest.raises(ConfigError, match=says):
        meeting_address(environ, text)


def test_how_a_machine_reaches_the_others():
    assert interface_to("127.0.0.1") == interface_to("::1") == interface_to("localhost") == "lo"
    assert resolve_host("localhost") == (socket.AF_INET, "127.0.0.1")
    of_second = ParallelConfig(tensor_parallel=2, nnodes=2, node_rank=1, rendezvous="127.0.0.1:7")
    place = meet_nodes({"GLOO_SOCKET_IFNAME": "eth7"}, of_second)
    assert (place.host, place.port, place.interface, place.listening) == ("127.0.0.1", 7, "eth7", None)
    with pytest.raises(EngineError, match=r"no-such-host\.invalid, where nodes meet, does not resolve"):
        meet_nodes({}, replace(of_second, rendezvous="no-such-host.invalid:7"))
    with bind_rendezvous({"MASTER_ADDR": "::1"}, 3).listening as listening:
        assert listening.getsockname()[0] == "::1"


def test_a_place_to_meet_that_is_taken_is_an_error_of_what_named_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        nodes = ParallelConfig(tensor_parallel=2, nnodes=2)
        for place, environ, parallel in (
            (f"parallel.rendezvous=127.0.0.1:{port}", {}, replace(nodes, rendezvous=f"127.0.0.1:{port}")),
            (f"MASTER_ADDR=127.0.0.1 MASTER_PORT={port}", named, nodes),
        ):
            with pytest.raises(EngineError, match=f"^{place}, where nodes meet, cannot be had: .*node 0, and a port"):
                meet_nodes(environ, parallel)


def test_nodes_that_cannot_be_are_refused(llama):
    words = [*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=2"]
    for more, says in (
        (["parallel.nnodes=3", "parallel.rendezvous=h:1"], "parallel.nnodes=3 does not divide parallel.tensor_para"),
        (["parallel.nnodes=2", "parallel.node_rank=2"], "parallel.node_rank=2, and there are parallel.nnodes=2 mach"),
        (["parallel.nnodes=2"], "nothing says where the nodes of a run meet"),
        (["parallel.nnodes=2", "parallel.rendezvous=h"], "parallel.rendezvous=h is not HOST:PORT"),
    ):
        with pytest.raises(ConfigError, match=says):
            resolved_run([*words, *more])
    meet = clean_environ(MASTER_ADDR="127.0.0.1")
    assert resolved_run([*words, "parallel.nnodes=2"], meet).run.config.parallel.local_ranks == range(1)
    notices = resolved_run([*words, "parallel.rendezvous=h:1"]).draft.notices
    assert "rendezvous=h:1) is not used by this run: the run is on one machine" in "".join(notices)
