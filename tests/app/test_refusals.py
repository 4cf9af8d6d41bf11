"""What cannot run is refused in one line that says what, where it was set and what to do, before anything starts."""

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import nearest
from tests.conftest import clean_environ
from tests.served import ECHO, sendnn, with_echo

REFUSED = [
    ("serve.prt=1", "unknown key serve.prt; did you mean serve.port?"),
    ("bakend=eager", "unknown key bakend; did you mean backend?"),
    ("backend=egaer", "unknown option backend=egaer; did you mean eager?"),
    ("backend=1", "backend=1 is not the name of an option; known: auto, eager, inductor, sendnn, sendnn_compile_only"),
    ("backend=null", "backend=null is not the name of an option"),
    ("profile=site", "there are no profiles; put FOLDER/profile/NAME.yaml and use --config-dir FOLDER"),
    ("serve.chunk_lines=2", "unknown key serve.chunk_lines; only serve=batch has it"),
    ("serve.output=x", "unknown key serve.output; only serve=bench and serve=batch have it"),
    ("warmup.shape=[8x1]", "unknown key warmup.shape; did you mean warmup.shapes?"),
    ("serve.port=http", "serve.port=http must be int (set by serve.port=http)"),
    (
        "workload.goodput.ttft_ms=abc",
        "workload.goodput.ttft_ms=abc must be float (set by workload.goodput.ttft_ms=abc)",
    ),
    ("metrics.perf_log=3", "metrics.perf_log is a group of keys (set by metrics.perf_log=3); set one of them"),
    ("serve.prot=1", "unknown key serve.prot; did you mean serve.port?"),
    ("model=local", "model.path has no value; set model.path=..."),
    ("backend=eager,inductor", "several values"),
    ("model.path=a==b", "quote it: 'model.path=\"a==b\"'"),
    ("--bogus", "--bogus is not a flag; --help lists flags and keys"),
    ("--port 8000", "--port is not a flag; write serve.port=8000"),
    ("--port=8000", "--port is not a flag; write serve.port=8000"),
    ("--model org/name", "--model is not a flag; write model=local model.path=org/name"),
    ("--model-id org/name", "write model=local model.path=org/name"),
    ("--served-model-name x serve=http", "write model.served_name=x"),
    ("--max-num-batched-tokens", "write scheduler.max_num_batched_tokens=..."),
    ("--name x", "--name is not a flag; write backend.name=x or"),
    ("--api-key hush", "--api-key is not a flag; set the variable SENDNN_PIPELINE_API_KEY"),
    (
        "model=/tmp/foo",
        "unknown option model=/tmp/foo; known: local, minilm, smollm2; any other model is named by",
    ),
    ("org/name", "a model is named by model=local model.path=org/name"),
    ("port=8000", "unknown key port; did you mean serve.port?"),
    ("serve.input=x", "unknown key serve.input; only serve=batch has it"),
    ("model.path=a,b", "add -m to sweep, or quote it: 'model.path=\"a,b\"'"),
    ("warmup.shapes=16x1,32x1", "add -m to sweep, or write 'warmup.shapes=[16x1,32x1]' for a list"),
    ("serve.port=70000", "serve.port=70000 must be int <= 65535 (set by serve.port=70000)"),
    ("serve.host=", "serve.host= must be text of length >= 1"),
    ("warmup.shapes=[64x99999999999999999999]", "sizes are at most 2147483647 (set by warmup.shapes="),
    (f"{'y' * 300}=1", "File name too long"),
    ("serve.max_queue=0", "serve.max_queue=0 must be int >= 1"),
    ("serve.request_timeout_seconds=nan", "serve.request_timeout_seconds=nan must be float > 0.0"),
    ("process.num_cpus=-1", "process.num_cpus=-1 must be int >= 0"),
    ("pipeline.stages=[compile]", "pipeline.stages=[compile] cannot run"),
    ("pipeline.stages=[]", "pipeline.stages=[] cannot run"),
    ("pipeline.stages=[load,run]", "pipeline.stages"),
    ("model.dtype=int8", "model.dtype=int8 must be auto, float32, bfloat16 or float16"),
    ("engine.task=sing", "engine.task"),
    ("device=tpu", "device=tpu is not supported"),
    ("engine.name=chat", "no plugin provides engine chat (set by engine.name=chat)"),
    ("warmup.shapes=[512x1]", "longer than the model's 256 tokens (set by warmup.shapes=[512x1])"),
    ("warmup.budget=0", "warmup.budget=0 must be int >= 1"),
    ("model.max_model_len=1024", "512 positions"),
    ("model.source=ftp", "no plugin provides model source ftp"),
    ("serve.target=grpc", "no plugin provides serve target grpc"),
    ("serve.api_key_file=/no/such/file", "serve.api_key_file"),
    ("backend=sendnn", "model.dtype=float32 is not computed by sendnn"),
    ("artifacts.require=true artifacts.enabled=false", "exclude each other"),
    ("backend=eager artifacts.require=true", "backend=eager keeps no artifacts"),
    ("backend=eager process.concurrent_steps=2", "runs one step at a time"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_errors_are_one_line(words, message, minilm, in_process):
    dtype = [] if words.startswith("model.dtype") else ["model.dtype=float32"]
    ended = in_process(*words.split(), *dtype)
    text = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode in (1, 2), text
    errors = [line for line in text if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], text
    assert "hush" not in errors[0]


@pytest.mark.parametrize(
    "words", ["serve.port=http", "model.dtype=int8", "pipeline.stages=[load,run]", "seerve.port=1"]
)
def test_errors_are_the_same_under_a_debugger(words, in_process, monkeypatch):
    """OmegaConf then keeps what its errors were made from, as it does with this variable."""
    monkeypatch.setenv("OC_CAUSE", "0")
    ended = in_process(*words.split())
    monkeypatch.setenv("OC_CAUSE", "1")
    again = in_process(*words.split())
    assert ended.returncode == again.returncode == 2 and ended.stderr == again.stderr


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("backend.warm_cals", ["backend.name", "backend.simple", "warmup.trace"]),
        ("serve.input", ["serve.port", "serve.host"]),
        ("SENDNN_INFERENCE_FOO", ["SENDNN_INFERENCE_LONG_OUT_PRIO", "SENDNN_INFERENCE_NUM_CPUS"]),
        ("model.name", ["backend.name", "engine.name"]),
    ],
)
def test_no_suggestion_rather_than_a_wrong_one(word, known):
    assert "did you mean" not in nearest(word, known)


@pytest.mark.parametrize(
    ("word", "right", "other"),
    [
        ("serve.prt", "serve.port", "serve.host"),
        ("http.port", "serve.port", "serve.host"),
        ("engine.step_mz", "engine.step_ms", "engine.name"),
        ("SENDNN_INFERENCE_NUM_CPU", "SENDNN_INFERENCE_NUM_CPUS", "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS"),
        ("SENDNN_INFERENCE_WARMUP_PROMT_LENS", "SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "SENDNN_INFERENCE_FOO"),
        ("inductr", "inductor", "eager"),
    ],
)
def test_a_slip_is_suggested_the_right_name(word, right, other):
    assert nearest(word, [right, other]) == f"did you mean {right}?"


SHOWN = {
    "--help": "Keys (key=value):",
    "--hydra-help": "== Flags ==",
    "--info": "Installed Hydra Plugins",
    "--info searchpath": "",
    "-sc install=bash": "hydra_bash_completion",
    "--shell-completion query=bash": "",
    "--cfg job": "model:",
    "-c hydra": "hydra:",
    "--cfg job --package serve": "port: 8000",
    "--cfg job --resolve": "port: 8000",
}


@pytest.mark.parametrize("words", list(SHOWN))
def test_every_flag_of_hydra_s_that_is_offered_works(words, in_process):
    # Of Hydra's own accounts, some leave their logging behind.
    call = sendnn if words.startswith("--info") else in_process
    ended = call(*words.split(), COMP_LINE="sendnn-pipeline backend=", COMP_POINT="24")
    assert ended.returncode == 0 and SHOWN[words] in ended.stdout, ended.stderr


REFUSED = {
    "-sc": "--shell-completion takes one word; write install=SHELL or uninstall=SHELL",
    "-sc install=csh": "--shell-completion takes one word; write install=SHELL or uninstall=SHELL",
    "-sc query=bash": "COMP_LINE is not set; query= is what shells ask",
    "explain serve.port=1,2": "serve.port=1,2 has several values for serve.port",
    "plugins -x": "plugins takes no -x; -v shows tracebacks",
    "catalog list x": "catalog list takes no x",
    "catalog show": "catalog show needs the first digits of a digest",
    "catalog nothing": "argument action: invalid choice: 'nothing'",
    "simulate": "the following arguments are required: FILE; ",
    "tune": "the following arguments are required: trace; ",
}


@pytest.mark.parametrize("words", list(REFUSED))
def test_words_that_a_tool_does_not_take_are_one_line(words, in_process):
    ended = in_process(*words.split())
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and line.startswith(f"error: {REFUSED[words]}"), line


@pytest.mark.parametrize("word", ["serve.prt=1", "serve.api_key_file=/no/such/file"])
def test_a_process_ends_with_its_error_and_its_exit_code(word, minilm, in_process):
    ended = sendnn(word, "model.dtype=float32")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and line.startswith("error: ")
    here = in_process(word, "model.dtype=float32")
    assert (here.returncode, here.stdout, here.stderr) == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("words", [["backend.freezing=true"], ["backend=auto", "backend.freezing=true"]])
def test_an_option_of_the_auto_backend_reaches_a_run(words, in_process):
    ended = in_process(*words, "--cfg", "job")
    assert ended.returncode == 0 and "freezing: true" in ended.stdout, ended.stderr


def test_options_that_name_each_other_are_one_line(tmp_path, in_process):
    (tmp_path / "profile").mkdir()
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / "profile" / f"{name}.yaml").write_text(f"# @package _global_\ndefaults: [{other}]\n")
    ended = in_process("--config-dir", str(tmp_path), "profile=one", "model.dtype=float32")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "a profile takes no other" in line


def test_cfg_job_shows_what_a_run_would_have(in_process):
    shown = in_process("--cfg", "job", SENDNN_INFERENCE_NUM_CPUS="7", SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR="/a,b")
    assert shown.returncode == 0 and "num_cpus: 7" in shown.stdout and "dir: /a,b" in shown.stdout
    over = in_process("process.num_cpus=8", "--cfg", "job", SENDNN_INFERENCE_NUM_CPUS="7")
    assert over.stdout.count("num_cpus: 8") == 1


def test_cfg_job_shows_the_same_as_a_run_composes(tmp_path, in_process):
    """Hydra's own composition, with what is inserted, and ours: options over the environment, and profiles."""
    import yaml

    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text(
        "# @package _global_\ndefaults: [override /backend: eager]\nserve: {max_queue: 5}\nprocess: {num_cpus: 5}\n"
    )
    variables = {"SENDNN_INFERENCE_NUM_CPUS": "3", "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND": "inductor"}
    words = ["profile=site", "backend=eager", "process=default"]
    shown = in_process("--config-dir", str(tmp_path), *words, "--cfg", "job", **variables)
    values = load_context(clean_environ(**variables), str(tmp_path)).compose(parse_overrides(words)).draft.values
    assert yaml.safe_load(shown.stdout) == values, shown.stderr
    assert values["backend"]["simple"] == "eager" and values["process"]["num_cpus"] == 0


def test_a_sweep_wins_over_the_environment_at_its_key(tiny, tmp_path, echo_run):
    words = ("-m", *ECHO, f"model.path={tiny}", "pipeline=precompile", "engine.step_ms=1,2")
    variables = {"SENDNN_PIPELINE__engine__step_ms": "3", "SENDNN_INFERENCE_NUM_CPUS": "1"}
    ended = echo_run(*words, f"hydra.sweep.dir={tmp_path}", **with_echo(**variables))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for job, ms in enumerate((1, 2)):
        log = (tmp_path / str(job) / "log.txt").read_text()
        assert f"echo, {ms} ms a step  (engine.step_ms={ms})" in log and "threads  1" in log


def test_a_target_that_never_ends_is_not_swept(in_process):
    ended = in_process("-m", "backend=eager,inductor")
    assert ended.returncode == 2 and "never ends" in ended.stderr
