"""Step times stay with the artifacts: a copy of them, or one file, starts elsewhere without measuring."""

import shutil
from dataclasses import replace

import pytest

from sendnn_pipeline.app import resolve
from sendnn_pipeline.backends.eager import EagerBackend, EagerProgram
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.messages import Ready, StageEvent
from sendnn_pipeline.pipeline import warmup
from sendnn_pipeline.pipeline.rank import run_rank
from sendnn_pipeline.programs.times import StepTimes
from tests.backends.test_life_cycle import EdgePort
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32

# One whose compiling costs nothing, so that what is left of a start is what this is about.
SIZES = ("scheduler.chunk_size=64", "scheduler.max_num_seqs=2", "model.max_model_len=128", "cache.num_blocks=9")
WORDS = (*EAGER_FLOAT32, *SIZES, "pipeline=precompile", "process.num_cpus=2", "process.override_signal_handlers=false")


@pytest.fixture
def start(llama, monkeypatch, tmp_path):
    """Start a decoder whose Programs are artifacts in the folder of this name, and return what it said of its start."""
    # Of steps this short a busy machine would have some measured again.
    monkeypatch.setattr(warmup, "implausible", lambda times: set())
    monkeypatch.setattr(EagerBackend, "limits", replace(EagerBackend.limits, artifacts="files"))
    monkeypatch.setattr(EagerBackend, "open", lambda self, folder, graph: self.compile(graph))
    monkeypatch.setattr(EagerProgram, "save", lambda self, folder: (folder / "program").write_text(self.graph.name))

    def start(name: str, *words: str) -> "Start":
        port = EdgePort([])
        run_rank(
            port, resolved_run([*WORDS, f"model.path={llama}", f"cache_dir={tmp_path / name}", *words]).run, World()
        )
        return Start(port)

    return start


class Start:
    """What a start did."""

    def __init__(self, port: EdgePort) -> None:
        (self.ready,) = port.of(Ready)
        self.ms = {(step.program, *step.sizes.values()): step.ms for step in self.ready.steps}
        ended = [event for event in port.of(StageEvent) if event.state == "finished" and event.program]
        self.compiled = [event.program for event in ended if event.stage == "compile" and event.source == "compiled"]
        # Only what was timed says how quick it is.
        self.timed = [event.program for event in ended if event.stage == "warmup" and event.detail]


def copied(tmp_path, name):
    shutil.copytree(tmp_path / "first" / "artifacts", tmp_path / name / "artifacts")
    assert not (tmp_path / name / StepTimes.FILE).exists()
    return name


def test_a_start_from_copied_artifacts_measures_nothing(start, tmp_path):
    first = start("first")
    assert first.ready.measured and len(first.compiled) == len(first.timed) == 4
    second = start(copied(tmp_path, "there"), "artifacts.require=true")
    assert not second.ready.measured and not second.timed and not second.compiled
    assert second.ms == pytest.approx(first.ms) and first.ms


def test_another_kind_of_machine_or_number_of_threads_measures_for_itself(start, tmp_path, monkeypatch):
    start("first")
    assert start(copied(tmp_path, "threads"), "process.num_cpus=1").ready.measured
    monkeypatch.setattr(resolve, "cpu_kind", lambda: "another CPU (x86_64) 01234567")
    other = start(copied(tmp_path, "there"))
    assert other.ready.measured and len(other.timed) == 4 and not other.compiled
    assert not start("there").ready.measured, "its own are beside those that came"
    monkeypatch.undo()


def test_one_file_has_the_times_and_what_is_measured_here_stays(start, llama, tmp_path, in_process):
    first = start("first")
    file, model = str(tmp_path / "run.artifacts"), (*EAGER_FLOAT32, *SIZES, "process.num_cpus=2", f"model.path={llama}")
    exported = in_process("catalog", "export", file, *model, f"cache_dir={tmp_path / 'first'}")
    assert exported.returncode == 0 and exported.stdout.count("with step times of") == 4, exported.stderr
    imported = in_process("catalog", "import", file, f"cache_dir={tmp_path / 'there'}")
    assert imported.returncode == 0, imported.stderr
    there = start("there", "artifacts.require=true")
    assert not there.ready.measured and there.ms == pytest.approx(first.ms)
    again = start("there", "warmup.remeasure=true")
    assert again.ready.measured
    in_process("catalog", "import", file, f"cache_dir={tmp_path / 'there'}")
    assert start("there").ms == pytest.approx(again.ms)


def test_a_store_that_is_read_only_leaves_the_times_in_the_cache(start, tmp_path):
    start("first")
    there = copied(tmp_path, "there")
    beside = tmp_path / "there" / "artifacts" / StepTimes.FILE
    beside.unlink()
    # As root reads and writes whatever the mode says, a folder is what cannot be written here.
    beside.mkdir()
    assert start(there).ready.measured and not start(there).ready.measured
    assert (tmp_path / "there" / StepTimes.FILE).is_file()
