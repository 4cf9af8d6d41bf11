"""The environment registry: every row, strict decoding, warnings."""

import json

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.ignored import read_retired
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.pooling.shapes import shape_of
from tests.conftest import clean_environ, resolved_run
from tests.served import FLOAT32

# A value other than the default for each variable, and what it must become.
VALUES = {
    "WARMUP_PROMPT_LENS": ("16, 48", [16, 48]),
    "WARMUP_BATCH_SIZES": ("2,4", [2, 4]),
    "DYNAMO_BACKEND": ("eager", "eager"),
    "PERF_METRIC_LOGGING_ENABLED": ("1", True),
    "PERF_METRIC_LOGGING_DIR": ("/tmp/a,b c", "/tmp/a,b c"),
    "BENCH_METRICS_ENABLED": ("true", True),
    "OVERRIDE_SIGNALS_HANDLER": ("0", False),
    "UPDATE_THREAD_CONFIG": ("False", False),
    "NUM_CPUS": ("3", 3),
    "MAX_LOAD_PROCESSES": ("2", 2),
    "WORKER_LOG_REDIRECT_DIR": ("/tmp/logs", "/tmp/logs"),
    "GLOO_TIMEOUT_MINUTES": ("90", 90),
    "REQUIRE_PRECOMPILED_DECODERS": ("1", True),
    "SIMPLE_COMPILE_BACKEND": ("eager", "eager"),
    "CP_INTERLEAVE_STEPS": ("0", False),
    "PAUSING_ENABLED": ("0", False),
    "LONG_OUT_PRIO": ("1", True),
    "REQUIRE_KNOWN_CONFIG": ("1", True),
    "MODEL_CONFIG_FILE": ("a file of the test", ""),
    "CPU_MM_DTYPE": ("bfloat16", "bfloat16"),
    "MM_DEVICE": ("cpu", "cpu"),
    "ASYNC_MM_ENCODER": ("0", False),
    "TP_MM_SHARING": ("0", False),
}


def at(run, key):
    for part in key.split("."):
        run = getattr(run, part)
    return run


def test_there_are_23_rows_and_each_lands_on_its_key(tiny, tmp_path):
    # A file of the registry's own form would do as well; this model has to be in it, as it is required.
    known = {"name": "tiny", "match": {"model_type": "bert"}, "backends": ["eager"], "runtimes": [{}]}
    file = tmp_path / "models.yaml"
    file.write_text(json.dumps([known]))
    values = VALUES | {"MODEL_CONFIG_FILE": (str(file), str(file))}
    environ = clean_environ(**{f"SENDNN_INFERENCE_{name}": text for name, (text, _) in values.items()})
    rows = load_context(environ).rows
    registry = {name for name in rows if name.startswith("SENDNN_INFERENCE_")}
    assert {f"SENDNN_INFERENCE_{name}" for name in VALUES} == registry and len(registry) == 23
    resolved = resolved_run([*FLOAT32, f"model.path={tiny}"], environ)
    draft = resolved.draft
    for name, (_, value) in values.items():
        row = rows[f"SENDNN_INFERENCE_{name}"]
        key = "backend.name" if row.key == "backend" else row.key
        assert at(resolved.run.config, key) == value, row
        if row.key != "backend":
            assert draft.where(key) == row.variable
    assert [shape_of(program) for program in resolved.run.plan.programs] == ["16x2", "48x4"]


def test_every_row_names_a_real_key_and_has_a_doc(context):
    keys = context.schemas.keys()
    for row in context.rows.values():
        assert row.doc and (row.key in keys or row.key in context.tree.groups)


@pytest.mark.parametrize(
    ("variable", "text", "accepts"),
    [
        ("SENDNN_INFERENCE_NUM_CPUS", "many", "whole number"),
        ("SENDNN_INFERENCE_NUM_CPUS", "2.5", "whole number"),
        ("SENDNN_INFERENCE_PAUSING_ENABLED", "2", "0, 1, true or false"),
        ("SENDNN_INFERENCE_PAUSING_ENABLED", "yes", "0, 1, true or false"),
        ("SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "64,", "separated by commas"),
        ("SENDNN_INFERENCE_CPU_MM_DTYPE", "Float16", "auto, float32, bfloat16 or float16"),
        ("SENDNN_INFERENCE_DYNAMO_BACKEND", "a b", "a name"),
        ("SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR", "${oc.env:HOME}", "without ${"),
        ("SENDNN_INFERENCE_NUM_CPUS", "-1", "int >= 0"),
        ("SENDNN_PIPELINE__serve__port", "http", "whole number"),
        ("SENDNN_PIPELINE__serve__port", "65536", "int <= 65535"),
        ("SENDNN_PIPELINE__serve__drain_seconds", "-0.5", "float >= 0.0"),
        ("SENDNN_PIPELINE__workload__lengths", "longest", "lognormal, uniform or trace"),
        ("SENDNN_PIPELINE__engine__task", "sing", "auto, embed or classify"),
        ("SENDNN_PIPELINE__pipeline__stages", "load,run", "load, compile, warmup or serve"),
    ],
)
def test_a_value_that_does_not_decode_names_the_variable(variable, text, accepts):
    with pytest.raises(ConfigError) as caught:
        load_context(clean_environ(**{variable: text}))
    assert variable in str(caught.value) and text in str(caught.value) and accepts in str(caught.value)


def test_unknown_and_empty_variables_warn():
    environ = clean_environ(SENDNN_INFERENCE_NUM_CPU="2", SENDNN_PIPELINE_PLUGIN="x", SENDNN_INFERENCE_NUM_CPUS="")
    assert load_context(environ).warnings == (
        "SENDNN_INFERENCE_NUM_CPUS is empty and counts as unset",
        "unknown variable SENDNN_INFERENCE_NUM_CPU is ignored; did you mean SENDNN_INFERENCE_NUM_CPUS?",
        "unknown variable SENDNN_PIPELINE_PLUGIN is ignored; did you mean SENDNN_PIPELINE_PLUGINS?",
    )


CONTINUOUS = "generating models always use continuous batching"


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("SENDNN_INFERENCE_USE_CB", CONTINUOUS),
        ("VLLM_SPYRE_USE_CB", CONTINUOUS),
        ("SENDNN_INFERENCE_USE_CHUNKED_PREFILL", "prefill is always chunked, in chunks of scheduler.chunk_size tokens"),
        ("VLLM_SPYRE_USE_CHUNKED_PREFILL", "prefill is always chunked, in chunks of scheduler.chunk_size tokens"),
        ("SENDNN_INFERENCE_WARMUP_NEW_TOKENS", "model.max_model_len limits prompt and output together"),
        ("VLLM_SPYRE_WARMUP_NEW_TOKENS", "model.max_model_len limits prompt and output together"),
        ("VLLM_DT_CHUNK_LEN", "scheduler.chunk_size sets the tokens of a prefill chunk"),
        ("VLLM_SPYRE_NUM_CPUS", "it is now SENDNN_INFERENCE_NUM_CPUS"),
        ("VLLM_SPYRE_NUM_CPU", "did you mean SENDNN_INFERENCE_NUM_CPUS?"),
    ],
)
def test_a_retired_variable_says_what_replaced_it(variable, says):
    for adopt_retired in (False, True) if "_NUM_CPUS" not in variable else (False,):
        context = load_context(clean_environ(**{variable: "3"}), adopt_retired=adopt_retired)
        (warning,) = context.warnings
        assert warning.startswith(f"{variable} is retired and ignored; ") and warning.endswith(says)
        assert context.env == []


def test_every_key_that_a_replacement_names_exists(context):
    retired = read_retired(context.tree.folders)
    named = {word.strip(",;") for text in retired.replacements.values() for word in text.split() if "." in word}
    assert named and named <= context.schemas.keys().keys()
    assert not retired.replacements.keys() & context.rows.keys()


def test_a_renamed_variable_can_be_adopted():
    values = {f"VLLM_SPYRE_{name}": text for name, (text, _) in VALUES.items()}
    context = load_context(clean_environ(**values), adopt_retired=True)
    assert {value.variable: value.value for value in context.env} == {
        f"VLLM_SPYRE_{name}": value
        for name, (_, value) in (VALUES | {"MODEL_CONFIG_FILE": ("", "a file of the test")}).items()
    }
    assert set(context.warnings) == {
        f"VLLM_SPYRE_{name} is retired; its value is taken for SENDNN_INFERENCE_{name}" for name in VALUES
    }
    assert load_context(clean_environ(**values)).env == []


@pytest.mark.parametrize(("newer", "value"), [("2", 2), ("", 3)])
def test_an_adopted_variable_gives_way_to_its_successor(newer, value):
    environ = clean_environ(VLLM_SPYRE_NUM_CPUS="3", SENDNN_INFERENCE_NUM_CPUS=newer)
    assert [one.value for one in load_context(environ, adopt_retired=True).env] == [value]
    with pytest.raises(ConfigError, match=r"VLLM_SPYRE_NUM_CPUS='x' sets process\.num_cpus and must be a whole number"):
        load_context(clean_environ(VLLM_SPYRE_NUM_CPUS="x"), adopt_retired=True)


@pytest.mark.parametrize("name", ["site.yaml", "retired.yaml"])
@pytest.mark.parametrize("text", [b"- a", b"a", b"a: [", b"\xff", b"\0"])
def test_a_file_of_variables_that_cannot_be_read_is_named(tmp_path, name, text):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / name).write_bytes(text)
    with pytest.raises(ConfigError, match=rf"env/{name}"):
        load_context(clean_environ(), str(tmp_path))


def test_a_wrong_file_of_retired_variables_is_named(tmp_path):
    (tmp_path / "env").mkdir()
    file = tmp_path / "env" / "retired.yaml"
    for text, says in (
        ("prefix: {A_: B_}", "Object contains unknown field `prefix`"),
        ("replacements: {A: 1}", "Expected `str`, got `int` - at `$.replacements[...]`"),
        ("prefixes: {VLLM_SPYRE_: ACME_}", "retires VLLM_SPYRE_, which another file does already"),
        ("a: [", "while parsing"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_context(clean_environ(), str(tmp_path))
        assert str(file) in str(caught.value) and says in str(caught.value)
    file.write_text("prefixes: {ACME_: SENDNN_INFERENCE_}")
    (warning,) = load_context(clean_environ(ACME_NUM_CPUS="1"), str(tmp_path)).warnings
    assert warning == "ACME_NUM_CPUS is retired and ignored; it is now SENDNN_INFERENCE_NUM_CPUS"


def test_every_key_is_reachable_by_prefix(tiny):
    environ = clean_environ(
        SENDNN_PIPELINE__backend="inductor",
        SENDNN_PIPELINE__backend__freezing="true",
        SENDNN_PIPELINE__warmup__shapes="16x2,48x4",
        SENDNN_PIPELINE__SERVE__PORT="9001",
        SENDNN_PIPELINE__serve__drain_seconds="1.5",
        SENDNN_PIPELINE__pipeline__stages="load,compile",
    )
    run = resolved_run([*FLOAT32, f"model.path={tiny}"], environ).run
    assert run.config.backend.freezing is True and run.config.serve.port == 9001
    assert run.config.serve.drain_seconds == 1.5 and run.config.pipeline.stages == ["load", "compile"]
    assert [shape_of(program) for program in run.plan.programs] == ["16x2", "48x4"]


def test_a_prefixed_variable_for_no_key_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean serve\.port"):
        load_context(clean_environ(SENDNN_PIPELINE__serve__prt="1"))


SERVICE = {
    "SENDNN_PIPELINE_SERVICE_HOST": "10.9.8.7",
    "SENDNN_PIPELINE_SERVICE_PORT": "8000",
    "SENDNN_PIPELINE_SERVICE_PORT_HTTP": "8000",
    "SENDNN_PIPELINE_PORT": "tcp://10.9.8.7:8000",
    "SENDNN_PIPELINE_PORT_8000_TCP": "tcp://10.9.8.7:8000",
    "SENDNN_PIPELINE_PORT_8000_TCP_PROTO": "tcp",
    "SENDNN_PIPELINE_PORT_8000_TCP_PORT": "8000",
    "SENDNN_PIPELINE_PORT_8000_TCP_ADDR": "10.9.8.7",
}


@pytest.mark.parametrize("name", ["SENDNN_PIPELINE", "SENDNN_PIPELINE_MINILM", "SENDNN_PIPELINE__SERVE", "VLLM_SPYRE"])
def test_what_kubernetes_sets_for_a_service_is_one_line(name):
    service = {variable.replace("SENDNN_PIPELINE", name): text for variable, text in SERVICE.items()}
    for adopt_retired in (False, True):
        context = load_context(clean_environ(**service, SENDNN_INFERENCE_NUM_CPUS="3"), adopt_retired=adopt_retired)
        assert context.warnings == (
            f"8 variables that Kubernetes sets for the Service {name.lower().replace('_', '-')} are ignored; "
            "enableServiceLinks: false in the pod keeps them out",
        )
        assert [value.variable for value in context.env] == ["SENDNN_INFERENCE_NUM_CPUS"]


def test_without_a_service_host_they_are_ours():
    (warning,) = load_context(clean_environ(SENDNN_PIPELINE_PORT="8000")).warnings
    assert warning.startswith("unknown variable SENDNN_PIPELINE_PORT is ignored")


@pytest.mark.parametrize("name", ["environment", "environment__ON"])
def test_a_mapping_is_set_elsewhere_than_by_a_variable(name):
    with pytest.raises(ConfigError) as caught:
        load_context(clean_environ(**{f"SENDNN_PIPELINE__backend__{name}": "1"}))
    assert str(caught.value) == (
        f"SENDNN_PIPELINE__backend__{name} sets backend.environment, a mapping, which no variable writes; set it in a "
        "profile, or on the command line: 'backend.environment={NAME: VALUE}'"
    )
