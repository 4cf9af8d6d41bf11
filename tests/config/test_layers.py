"""Which layer wins, and what is said about it; the traps of environment values as overrides."""

import pytest

from sendnn_pipeline.config.command_line import parse_words
from sendnn_pipeline.config.compose import quote
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.host import open_host
from tests.conftest import clean_environ, resolved_run
from tests.served import sendnn


def layered(*words, **variables):
    return open_host(clean_environ(**variables)).layer(parse_words(words))


def shapes(tiny, *words, **variables):
    run = resolved_run(["model=local", f"model.path={tiny}", *words], clean_environ(**variables)).run
    return [str(shape) for shape in run.shapes]


LENS, SIZES = "SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "SENDNN_INFERENCE_WARMUP_BATCH_SIZES"


@pytest.mark.parametrize(
    "text", ["a,b", 'q"x', "a=b", "back\\", '\\"', "it's", "null", "1", "[1,2]", "{a: 1}", "a b", ""]
)
def test_quoting_survives_hydra(text):
    assert layered(f"metrics.perf_log.dir={quote(text)}").composed.run.metrics.perf_log.dir == text


def test_a_comma_in_an_environment_value_is_no_sweep():
    found = layered(SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR="/tmp/a,b")
    assert found.composed.run.metrics.perf_log.dir == "/tmp/a,b"


def test_command_line_over_environment_over_option(tiny):
    assert layered().composed.run.process.num_cpus == 0
    assert layered(SENDNN_INFERENCE_NUM_CPUS="3").composed.run.process.num_cpus == 3
    found = layered("process.num_cpus=4", SENDNN_INFERENCE_NUM_CPUS="3")
    assert found.composed.run.process.num_cpus == 4
    assert found.notices == ("SENDNN_INFERENCE_NUM_CPUS is overridden by process.num_cpus=4 on the command line",)
    origins = found.provenance.origins["process.num_cpus"]
    assert [origin.where.split(" ")[0] for origin in origins] == [
        "process.num_cpus=4",
        "SENDNN_INFERENCE_NUM_CPUS",
        "conf/process/default.yaml",
        "schema",
    ]


def test_an_option_named_on_the_command_line_sets_every_key_of_its_file():
    found = layered("backend=eager", SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND="inductor")
    assert found.composed.run.backend.simple == "eager"
    assert "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND is overridden by backend=eager" in found.notices[0]
    kept = layered(SENDNN_INFERENCE_DYNAMO_BACKEND="eager", SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND="inductor")
    assert kept.composed.run.backend.simple == "inductor" and kept.notices == ()


def test_shapes_are_one_value(tiny):
    assert shapes(tiny, "warmup.shapes=[16x2]", **{LENS: "48"}) == ["16x2"]
    assert shapes(tiny, "warmup=short", "model.max_model_len=64", **{LENS: "48"}) == ["32x1", "32x32", "64x16"]
    assert shapes(tiny, "warmup=short", "warmup.prompt_lens=[48]") == ["48x1"]
    assert shapes(tiny, "warmup.batch_sizes=[4]", **{LENS: "16,48"}) == ["16x4", "48x4"]
    assert shapes(tiny, **{SIZES: "4"}) == ["64x4"]
    assert shapes(tiny, "warmup.prompt_lens=[16]", SENDNN_PIPELINE__warmup__shapes="48x2") == ["16x1"]
    with pytest.raises(ConfigError, match="both set"):
        shapes(tiny, "warmup.prompt_lens=[16]", "warmup.shapes=[16x2]")
    with pytest.raises(ConfigError, match=f"{SIZES}|{LENS}"):
        shapes(tiny, **{LENS: "16,48,64", SIZES: "1,2"})


def test_auto_backend_says_why_and_its_options_can_be_set():
    found = layered("backend.freezing=true")
    assert found.composed.run.backend.name == "inductor" and found.composed.run.backend.freezing
    assert found.provenance.where("backend") == "auto: torch_sendnn is not importable"
    assert layered("backend=auto").composed.run.backend.name == "inductor"


def test_auto_takes_sendnn_where_it_is_importable(tmp_path, monkeypatch):
    (tmp_path / "torch_sendnn.py").write_text("raise RuntimeError('never imported for this')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert layered().composed.run.backend.name == "sendnn"


def test_profiles_lie_over_options_and_under_the_environment(tmp_path, tiny):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text(
        "# @package _global_\ndefaults:\n- override /backend: eager\nprocess: {num_cpus: 5}\n"
        "warmup: {prompt_lens: [16]}\n"
    )
    host = open_host(clean_environ(SENDNN_INFERENCE_NUM_CPUS="3"), str(tmp_path))
    found = host.layer(parse_words(["profile=site"]))
    assert found.composed.run.backend.name == "eager" and found.composed.run.warmup.prompt_lens == [16]
    # Named on the command line, it sets every key of its file.
    assert found.composed.run.process.num_cpus == 5


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("serve.prt=1", "serve.prt is no key; did you mean serve.port?"),
        ("bakend=eager", "bakend is no key; did you mean backend?"),
        ("backend=egaer", "backend=egaer is no option; did you mean eager?"),
        ("serve.port=http", "serve.port"),
        ("model=local", "model.path has no value"),
        ("backend=eager,inductor", "several values"),
        ("model.path=a==b", "quote it: 'model.path=\"a==b\"'"),
        ("+serve.more=1", "adds or deletes"),
        ("~serve", "adds or deletes"),
        ("serve", "is no override"),
        ("--bogus", "--bogus"),
        ("--config-name=other", "--config-dir"),
        ("serve.port=70000", "serve.port=70000 is no port (set by serve.port=70000)"),
        ("serve.max_queue=0", "serve.max_queue"),
        ("serve.request_timeout_seconds=nan", "serve.request_timeout_seconds"),
        ("process.num_cpus=-1", "process.num_cpus"),
        ("pipeline.stages=[compile]", "pipeline.stages"),
        ("model.dtype=int8", "use auto, float32"),
        ("device=tpu", "device=tpu"),
        ("engine.name=chat", "engine.name=chat is no engine"),
        ("warmup.shapes=[512x1]", "longer than the model's 256 tokens (set by warmup.shapes=[512x1])"),
        ("model.max_model_len=1024", "512 positions"),
        ("model.source=ftp", "no plugin provides model source ftp"),
        ("backend.simple=sendnn", "backend.simple=sendnn compiles no helper graphs"),
        ("backend.simple=fast", "compile backend fast"),
        ("serve.target=grpc", "no plugin provides serve target grpc"),
        ("serve.api_key_file=/no/such/file", "serve.api_key_file"),
        ("backend=sendnn", "torch_sendnn"),
    ],
)
def test_errors_are_one_line_and_exit_non_zero(word, message, minilm):
    ended = sendnn(*word.split(" "))
    text = (ended.stdout + ended.stderr).strip().splitlines()
    assert ended.returncode in (1, 2), text
    errors = [line for line in text if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], text
    assert "Traceback" not in ended.stderr


def test_an_option_of_the_auto_backend_reaches_a_run():
    for words in (["backend.freezing=true"], ["backend=auto", "backend.freezing=true"]):
        ended = sendnn(*words, "--cfg", "job")
        assert ended.returncode == 0 and "freezing: true" in ended.stdout, ended.stderr


def test_cfg_job_shows_the_environment():
    ended = sendnn("--cfg", "job", SENDNN_INFERENCE_NUM_CPUS="7", SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR="/a,b")
    assert ended.returncode == 0 and "num_cpus: 7" in ended.stdout and "dir: /a,b" in ended.stdout
    assert sendnn("process.num_cpus=8", "--cfg", "job", SENDNN_INFERENCE_NUM_CPUS="7").stdout.count("num_cpus: 8") == 1


def test_a_sweep_wins_over_the_environment_at_its_key(tiny, tmp_path):
    words = ("-m", "model=local", f"model.path={tiny}", "backend=eager", "pipeline=precompile")
    folder = f"hydra.sweep.dir={tmp_path}"
    ended = sendnn(*words, folder, "warmup.prompt_lens=[16],[48]", **{LENS: "64", SIZES: "2"})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for job, length in enumerate((16, 48)):
        log = (tmp_path / str(job) / "log.txt").read_text()
        assert log.count(f"compile 1/2 pool[batch=2,len={length}]") == 1 and "len=64" not in log


def test_a_target_that_never_ends_is_not_swept():
    ended = sendnn("-m", "backend=eager,inductor")
    assert ended.returncode == 2 and "never ends" in ended.stderr


def test_what_only_helps_to_choose_shapes_is_not_silent(tiny, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("5\n9\n")
    words = ["model=local", f"model.path={tiny}", "backend=eager", f"warmup.trace={trace}", "warmup.budget=3"]
    notices = resolved_run([*words, "warmup.shapes=[16x2]"]).run.notices
    assert [notice for notice in notices if "shapes are named" in notice] == [
        f"warmup.trace (set by warmup.trace={trace}) is not used by this run: shapes are named",
        "warmup.budget (set by warmup.budget=3) is not used by this run: shapes are named",
    ]
    (only,) = [notice for notice in resolved_run(words).run.notices if "not used" in notice]
    assert only.startswith("warmup.budget") and only.endswith("the backend takes a range of sizes")
