"""The performance log where it cannot be written: whole lines or none, and a word about it, once."""

import json
import subprocess
import sys

from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.observe.perf_log import PerfLog
from tests.served import ECHO, ROOT, Served, environment, with_echo

# Writes until the system refuses more of the file, and cuts the write that goes past its end, as a full disk does.
CODE = """
import resource, sys
from pathlib import Path
from sendnn_pipeline.observe.perf_log import PerfLog
log = PerfLog(Path(sys.argv[1]), "run", "m")
log.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for number in range(50):
    log.request({"number": number})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
log.request({"number": "after"})
"""


def test_lines_are_whole_and_it_is_said_once(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "request_metrics.jsonl").read_text()
    *before, last = [json.loads(line)["number"] for line in text.splitlines()]
    assert before == list(range(len(before))) and len(before) > 5 and last == "after" and text.endswith("}\n")
    (line,) = ended.stderr.splitlines()
    assert "request_metrics.jsonl" in line and "lost from here on" in line


def test_each_rank_has_a_file_of_its_own(tmp_path):
    log = PerfLog(tmp_path, "run", "m", ranks=range(2))
    log.open()
    log.on_stage(StageEvent("load", "finished", seconds=1.5, rank=1))
    assert (tmp_path / "perf_log_rank_0.txt").read_text() == ""
    (line,) = (tmp_path / "perf_log_rank_1.txt").read_text().splitlines()
    assert line.split(", ")[1:] == ["load model time", "1.500", "model", "m", "run_id", "run"]


def test_requests_are_answered_although_their_log_is_lost(tiny, tmp_path):
    words = ("metrics.perf_log.enabled=true", f"metrics.perf_log.dir={tmp_path}")
    with Served(*ECHO, f"model.path={tiny}", *words, **with_echo()) as served:
        log = tmp_path / "request_metrics.jsonl"
        log.unlink()
        # Always full.
        log.symlink_to("/dev/full")
        for _ in range(5):
            assert served.post("/v1/echo", json={"input": "a"}).status_code == 200
        served.terminate()
        assert served.exit_code() == 0
    (line,) = [line for line in served.lines if "request_metrics.jsonl" in line]
    assert " ERROR " in line and "No space left on device; lines that cannot be written are lost" in line
