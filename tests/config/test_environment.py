"""The environment registry: every row, strict decoding, warnings."""

import json

import pytest

from sendnn_pipeline.config.keys import keys_of
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.host import open_host
from tests.conftest import clean_environ, resolved_run

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
    rows = open_host(environ).rows
    assert {f"SENDNN_INFERENCE_{name}" for name in VALUES} == rows.keys() and len(rows) == 23
    resolved = resolved_run(["model=local", f"model.path={tiny}"], environ)
    for name, (_, value) in values.items():
        row = rows[f"SENDNN_INFERENCE_{name}"]
        key = "backend.name" if row.key == "backend" else row.key
        assert at(resolved.run.config, key) == value, row
        if row.key != "backend":
            assert resolved.provenance.where(key) == row.variable
    assert [str(shape) for shape in resolved.run.shapes] == ["16x2", "48x4"]


def test_every_row_names_a_real_key_and_has_a_doc(host):
    keys = keys_of(RunConfig)
    for row in host.rows.values():
        assert row.doc and (row.key in keys or row.key in host.tree.groups())


@pytest.mark.parametrize(
    ("variable", "text", "accepts"),
    [
        ("SENDNN_INFERENCE_NUM_CPUS", "many", "whole number"),
        ("SENDNN_INFERENCE_NUM_CPUS", "2.5", "whole number"),
        ("SENDNN_INFERENCE_PAUSING_ENABLED", "2", "0, 1, true or false"),
        ("SENDNN_INFERENCE_PAUSING_ENABLED", "yes", "0, 1, true or false"),
        ("SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "64,", "separated by commas"),
        ("SENDNN_INFERENCE_CPU_MM_DTYPE", "Float16", "float32, float16 or bfloat16"),
        ("SENDNN_INFERENCE_DYNAMO_BACKEND", "a b", "a name"),
        ("SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR", "${oc.env:HOME}", "without ${"),
        ("SENDNN_PIPELINE__serve__port", "http", "whole number"),
    ],
)
def test_a_value_that_does_not_decode_names_the_variable(variable, text, accepts):
    with pytest.raises(ConfigError) as caught:
        open_host(clean_environ(**{variable: text}))
    assert variable in str(caught.value) and text in str(caught.value) and accepts in str(caught.value)


def test_unknown_retired_and_empty_variables_warn():
    environ = clean_environ(
        SENDNN_INFERENCE_NUM_CPU="2",
        VLLM_SPYRE_NUM_CPUS="2",
        SENDNN_PIPELINE_PLUGIN="x",
        SENDNN_INFERENCE_NUM_CPUS="",
    )
    warnings = "\n".join(open_host(environ).warnings)
    assert "SENDNN_INFERENCE_NUM_CPU is no known variable" in warnings
    assert "did you mean SENDNN_INFERENCE_NUM_CPUS?" in warnings
    assert "VLLM_SPYRE_NUM_CPUS is retired and ignored; it is now SENDNN_INFERENCE_NUM_CPUS" in warnings
    assert "did you mean SENDNN_PIPELINE_PLUGINS?" in warnings
    assert "SENDNN_INFERENCE_NUM_CPUS is empty and counts as unset" in warnings


def test_every_key_is_reachable_by_prefix(tiny):
    environ = clean_environ(
        SENDNN_PIPELINE__backend="inductor",
        SENDNN_PIPELINE__backend__freezing="true",
        SENDNN_PIPELINE__warmup__shapes="16x2,48x4",
        SENDNN_PIPELINE__SERVE__PORT="9001",
        SENDNN_PIPELINE__serve__drain_seconds="1.5",
        SENDNN_PIPELINE__pipeline__stages="load,compile",
    )
    run = resolved_run(["model=local", f"model.path={tiny}"], environ).run
    assert run.config.backend.freezing is True and run.config.serve.port == 9001
    assert run.config.serve.drain_seconds == 1.5 and run.config.pipeline.stages == ["load", "compile"]
    assert [str(shape) for shape in run.shapes] == ["16x2", "48x4"]


def test_a_prefixed_variable_for_no_key_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean serve\.port"):
        open_host(clean_environ(SENDNN_PIPELINE__serve__prt="1"))
