"""Threads of an engine process: how many, why, and the variables that set them."""

import pytest

from sendnn_pipeline.config.schema import ProcessConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.machine import threads
from sendnn_pipeline.machine.cpu import THREAD_VARIABLES, CpuFacts

NOTHING = CpuFacts(None, None, None, None)


@pytest.fixture
def machine(monkeypatch):
    def pretend(facts):
        monkeypatch.setattr(threads, "read_cpu_facts", lambda: facts)

    return pretend


def test_every_variable_gets_the_share_of_each_worker(machine):
    machine(CpuFacts(None, 7, None, None))
    for workers, count in ((1, 7), (2, 4)):
        planned = threads.plan_threads(ProcessConfig(), {"OMP_NUM_THREADS": "64"}, workers)
        assert planned.count == count and planned.reason == "the affinity mask" and planned.warnings == ()
        assert planned.environment == dict.fromkeys(THREAD_VARIABLES, str(count))


def test_left_alone_the_variables_are_only_looked_at(machine):
    machine(CpuFacts(None, 4, None, None))
    environ = dict.fromkeys(THREAD_VARIABLES, "4") | {"OMP_NUM_THREADS": "64"}
    planned = threads.plan_threads(ProcessConfig(update_thread_config=False), environ)
    assert planned.environment == {} and planned.count == 4
    assert planned.reason == "process.update_thread_config=false: not set"
    assert planned.warnings == ["OMP_NUM_THREADS is 64; 4 fits the CPUs of each worker"]


def test_a_machine_that_says_nothing_needs_a_number_or_is_left_alone(machine):
    machine(NOTHING)
    with pytest.raises(ConfigError, match=r"threads cannot be set: no source says .* set process\.num_cpus"):
        threads.plan_threads(ProcessConfig(), {})
    assert threads.plan_threads(ProcessConfig(num_cpus=3), {}).count == 3
    assert threads.plan_threads(ProcessConfig(update_thread_config=False), {}).count == 0
