"""``simulate``, as a user calls it."""

import json
import re

from tests.generation.tables import SCENARIOS, scenarios
from tests.served import EAGER_FLOAT32, ROOT


def test_the_known_scenarios_are_filled_in(tmp_path, in_process):
    file = tmp_path / "bare.json"
    bare = [{key: one[key] for key in ("name", "config", "requests")} for one in scenarios()]
    file.write_text(json.dumps(bare))
    ended = in_process("simulate", str(file))
    assert ended.returncode == 0 and ended.stderr == "" and json.loads(ended.stdout) == scenarios()
    # What it printed, it reads.
    file.write_text(ended.stdout)
    assert in_process("simulate", str(file)).stdout == ended.stdout


def test_times_are_predicted_where_costs_are_known(tmp_path, in_process):
    ended = in_process("simulate", str(SCENARIOS), "--prefill-ms", "40", "--decode-ms", "20")
    first, *_ = json.loads(ended.stdout)
    assert first["prediction"]["total_ms"] == 420 and first["prediction"]["requests"][0]["ttft_ms"] == 40
    assert "two_prompts_padding_realignment: 27 tokens in 420.0 ms, 64.3 tokens/s" in ended.stderr
    file = tmp_path / "file.json"
    file.write_text(json.dumps([scenarios()[1] | {"costs": {"prefill_ms": 1, "decode_ms": 2.5}}]))
    (only,) = json.loads(in_process("simulate", str(file)).stdout)
    assert only["prediction"]["total_ms"] == 2 * 1 + 2 * 2.5 and only["costs"]["decode_ms"] == 2.5
    (again,) = json.loads(in_process("simulate", str(file), "--prefill-ms=0", "--decode-ms=1").stdout)
    assert again["prediction"]["total_ms"] == 2


def test_the_file_of_the_page_gives_what_the_page_says(tmp_path, in_process):
    page = (ROOT / "sendnn_pipeline" / "generation" / "README.md").read_text()
    ((content, printed),) = re.findall(r"```json\n(.*?)```.*?```\n(two prompts: .*?\n)```", page, flags=re.DOTALL)
    (tmp_path / "sim.json").write_text(content)
    ended = in_process("simulate", str(tmp_path / "sim.json"), "--prefill-ms", "20", "--decode-ms", "10")
    assert ended.returncode == 0 and ended.stderr == printed


def test_a_run_is_predicted_by_what_this_machine_measured(tmp_path, in_process, llama):
    run = (*EAGER_FLOAT32, f"model.path={llama}", "scheduler.max_num_seqs=4", f"cache_dir={tmp_path / 'cache'}")
    file = tmp_path / "file.json"
    bare = {key: scenarios()[1][key] for key in ("name", "config")}
    request = {"id": "a", "arrival_step": 0, "prompt": [5, 6, 7], "max_tokens": 4}
    file.write_text(json.dumps([{**bare, "requests": [request, {**request, "id": "b"}]}]))
    unknown = in_process("simulate", str(file), *run)
    assert unknown.returncode == 2 and "were not measured here yet" in unknown.stderr
    assert in_process(*run, "pipeline=precompile").returncode == 0
    (found,) = json.loads(in_process("simulate", str(file), *run).stdout)
    # Both prompts in a step, and three decodes: not by sendnn's rules.
    assert len(found["steps"]) == 5 and found["prediction"]["total_ms"] > 0
    (priced,) = json.loads(in_process("simulate", str(file), *run, "--prefill-ms=7", "--decode-ms=2").stdout)
    assert priced["prediction"]["total_ms"] == 13
    file.write_text(json.dumps([{**bare, "requests": [{**request, "max_tokens": 256}]}]))
    never = in_process("simulate", str(file), *run)
    assert never.returncode == 2 and "request a: 3 prompt tokens and 256 new ones" in never.stderr


def test_pictures(tmp_path, in_process):
    file = tmp_path / "file.json"
    file.write_text(json.dumps(scenarios()[:2]))
    page, picture = tmp_path / "page.html", tmp_path / "picture.png"
    ended = in_process("simulate", str(file), "--html", str(page), "--png", str(picture))
    assert ended.returncode == 0 and "batch_tkv_limit_129" in page.read_text() and picture.stat().st_size > 10_000


def test_what_is_wrong_is_one_line(tmp_path, in_process):
    file = tmp_path / "file.json"
    file.write_text(json.dumps([scenarios()[0] | {"config": {}}]))
    good = tmp_path / "good.json"
    good.write_text(json.dumps(scenarios()[1:2]))
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    for words, message in (
        ([str(file)], "scenario 1 (two_prompts_padding_realignment): config: Object missing required field"),
        ([str(tmp_path / "none.json")], "cannot be read: No such file or directory; name a file of scenarios"),
        ([str(SCENARIOS), "--prefill-ms", "3"], "--prefill-ms and --decode-ms only predict times together; set both"),
        ([str(good), "--html", str(tmp_path / "no" / "page.html")], "page.html cannot be written: No such file"),
        ([str(empty), "--png", str(tmp_path / "p.png")], "has no scenario to draw"),
    ):
        ended = in_process("simulate", *words)
        assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and message in ended.stderr, ended.stderr
        assert ended.stdout == ""
    assert in_process("simulate", str(empty)).stdout == "[]\n"
    assert in_process("simulate", str(SCENARIOS), "--prefill-ms=-1", "--decode-ms=1").returncode == 2
