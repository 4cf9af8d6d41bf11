"""What this machine measured, as it is recorded and read again."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

from sendnn_pipeline.app import resolve
from sendnn_pipeline.programs.program import Dim, Program
from sendnn_pipeline.programs.times import CompileTimes, StepTimes, implausible, timing_prefix
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32, ROOT, environment

CPU = "AMD EPYC (x86_64) 01234567"


def prefix(threads=1, cpu=CPU, **options):
    return timing_prefix(
        "0" * 64, {"name": "inductor", **options}, "float32", cpu, threads=threads, concurrent_steps=1, ranks=1
    )


ONE, OTHER, FROZEN = prefix(), prefix(threads=2), prefix(freezing=True)
PROGRAM = Program("pool", (Dim("batch", 8, 1), Dim("len", 64, 8)))


def test_steps_come_back_by_program_and_sizes_under_their_prefix_only(tmp_path):
    times = StepTimes((tmp_path,))
    assert times.read(ONE) == {}
    times.record(ONE, {PROGRAM.name: {(1, 8): 1.25, (8, 64): 20.0}})
    times.record(OTHER, {PROGRAM.name: {(1, 8): 3.0}})
    assert times.read(ONE) == {PROGRAM.name: {(1, 8): 1.25, (8, 64): 20.0}}
    times.record(ONE, {PROGRAM.name: {(1, 8): 1.0}})
    assert times.read(ONE) == {PROGRAM.name: {(1, 8): 1.0}} and times.read(OTHER) == {PROGRAM.name: {(1, 8): 3.0}}
    assert times.read(FROZEN) == {}, "another option of the backend compiles other code"


def test_times_beside_artifacts_are_read_behind_this_machine_s_own_and_both_are_written(tmp_path):
    own, beside = tmp_path / "cache", tmp_path / "artifacts"
    StepTimes((beside,)).record(ONE, {PROGRAM.name: {(1, 8): 9.0}, "other": {(1,): 2.0}})
    times = StepTimes((own, beside))
    assert times.read(ONE) == {PROGRAM.name: {(1, 8): 9.0}, "other": {(1,): 2.0}}
    times.record(ONE, {PROGRAM.name: {(1, 8): 1.0}})
    for folders in ((own,), (beside,)):
        assert StepTimes(folders).read(ONE)[PROGRAM.name] == {(1, 8): 1.0}
    StepTimes((beside,)).record(ONE, {PROGRAM.name: {(1, 8): 3.0}})
    assert times.read(ONE)[PROGRAM.name] == {(1, 8): 1.0}


def test_times_are_saved_where_one_folder_can_be_written_and_it_is_told_where_none_can(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_text("a file")
    broken = (tmp_path / "first" / "below", tmp_path / "second" / "below")
    with pytest.raises(NotADirectoryError):
        StepTimes(broken).record(ONE, {PROGRAM.name: {(1, 8): 1.0}})
    times = StepTimes((*broken, tmp_path))
    times.record(ONE, {PROGRAM.name: {(1, 8): 1.0}})
    assert times.read(ONE) == {PROGRAM.name: {(1, 8): 1.0}}


@pytest.mark.parametrize("ms", ["NaN", "Infinity", "-1.0", "0.0", '"soon"'])
def test_times_that_are_no_milliseconds_are_not_taken(tmp_path, ms):
    (tmp_path / StepTimes.FILE).write_text(f'{{"{ONE}{PROGRAM.name}": [[1, 8, {ms}]]}}')
    assert StepTimes((tmp_path,)).read(ONE) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"%s": [["a", 1]]}', '{"%s": 3}', '{"%s": [[]]}'])
def test_a_file_that_is_broken_records_nothing_and_is_written_anew(tmp_path, content):
    (tmp_path / StepTimes.FILE).write_text(content.replace("%s", ONE + PROGRAM.name))
    times = StepTimes((tmp_path,))
    assert times.read(ONE) == {}
    times.record(ONE, {PROGRAM.name: {(1, 8): 1.0}})
    assert times.read(ONE) == {PROGRAM.name: {(1, 8): 1.0}}


def test_the_longest_compile_stays_and_a_total_needs_all(tmp_path):
    times = CompileTimes(tmp_path)
    fixed = Program("pool", (Dim("batch", 8), Dim("len", 64)))
    assert times.total(ONE, [PROGRAM]) is None
    times.record(ONE, {PROGRAM.name: 30.0})
    times.record(ONE, {PROGRAM.name: 2.0})
    assert times.total(ONE, [PROGRAM]) == 30.0 and times.total(ONE, [PROGRAM, fixed]) is None
    times.record(ONE, {fixed.name: 1.5})
    assert times.total(ONE, [PROGRAM, fixed]) == 31.5 and times.total(OTHER, [PROGRAM]) is None


WORDS = [*EAGER_FLOAT32, "warmup.shapes=[16x2]"]


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_folders_of_one_name_do_not_share_times_and_copies_of_one_model_do(tiny, tmp_path):
    copies = {name: shutil.copytree(tiny, tmp_path / name / "model") for name in ("a", "b", "c")}
    edit_config(copies["c"], layer_norm_eps=0.1)
    runs = {name: resolved_run([*WORDS, f"model.path={folder}"]).run for name, folder in copies.items()}
    assert runs["a"].timing_prefix == runs["b"].timing_prefix != runs["c"].timing_prefix
    StepTimes((tmp_path,)).record(runs["a"].timing_prefix, {"pool[batch=2,len=16]": {(2, 16): 3.0}})
    CompileTimes(tmp_path).record(runs["a"].timing_prefix, {"pool[batch=2,len=16]": 7.0})
    for name, ms, seconds in (("b", {"pool[batch=2,len=16]": {(2, 16): 3.0}}, 7.0), ("c", {}, None)):
        prefix = runs[name].timing_prefix
        assert StepTimes((tmp_path,)).read(prefix) == ms
        assert CompileTimes(tmp_path).total(prefix, runs[name].plan.programs) == seconds


def test_whatever_changes_how_long_a_step_takes_is_in_the_name(tiny, monkeypatch):
    words = [*WORDS, f"model.path={tiny}"]
    different = [
        [],
        ["process.num_cpus=1"],
        ["process.num_cpus=3"],
        ["model.dtype=float16"],
        ["backend=inductor", "process.num_cpus=3"],
        ["backend=inductor", "process.num_cpus=3", "process.concurrent_steps=1"],
    ]
    prefixes = [resolved_run([*words, "process.num_cpus=2", *more]).run.timing_prefix for more in different]
    monkeypatch.setattr(resolve, "cpu_kind", lambda: "another CPU (x86_64) 01234567")
    prefixes.append(resolved_run([*words, "process.num_cpus=2"]).run.timing_prefix)
    assert len(set(prefixes)) == len(prefixes)
    # A prefix is no other's beginning.
    assert not any(one != other and other.startswith(one) for one in prefixes for other in prefixes)


RECORD = """
import sys
from pathlib import Path
from sendnn_pipeline.programs.times import CompileTimes, StepTimes, implausible, timing_prefix
folder, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for index in range(40):
    CompileTimes(folder).record(f"{name} ", {f"p{index}": 1.5})
    StepTimes((folder,)).record(f"{name} ", {f"p{index}": {(1, index): 2.5}})
"""


def recorder(folder, name):
    command = [sys.executable, "-c", RECORD, str(folder), name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=ROOT, env=environment(), **pipes)


def test_processes_that_record_at_once_lose_nothing_of_each_other(tmp_path):
    with ExitStack() as stack:
        processes = [stack.enter_context(recorder(tmp_path, name)) for name in ("one", "two", "three")]
        # All of them begin when the last one is there.
        assert all(process.stdout.readline() == "ready\n" for process in processes)
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(CompileTimes(tmp_path).read()) == 3 * 40
    for name in ("one", "two", "three"):
        assert StepTimes((tmp_path,)).read(f"{name} ") == {f"p{index}": {(1, index): 2.5} for index in range(40)}
    assert not list(tmp_path.glob("*.partial"))


def test_a_step_that_takes_much_longer_than_a_larger_one_is_implausible():
    ranged, fixed = (
        Program("pool", (Dim("batch", 8, 1), Dim("len", 128, 8))),
        Program("pool", (Dim("batch", 1), Dim("len", 64))),
    )
    other = Program("decode", (Dim("batch", 8), Dim("blocks", 128)))
    times = {ranged: {(1, 32): 337.0, (1, 128): 67.0, (8, 8): 120.0}, fixed: {(1, 64): 20.0}, other: {(8, 128): 0.1}}
    assert implausible(times) == {(ranged, (1, 32))}
    assert implausible({fixed: {(1, 64): 150.0}, ranged: {(1, 128): 67.0}}) == {(fixed, (1, 64))}
    assert implausible({}) == set()
