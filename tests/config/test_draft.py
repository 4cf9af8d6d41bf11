"""A run on its way: values, who set them and why, and the frozen, typed configuration in the end."""

from dataclasses import FrozenInstanceError

import pytest

from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.draft import Draft, Layer, Origin, write_value
from sendnn_pipeline.config.dtypes import Dtype
from sendnn_pipeline.errors import ConfigError


@pytest.fixture
def draft(context):
    return context.compose(parse_overrides(["serve.max_queue=7", "backend=inductor"])).draft


def test_layers_are_ordered_and_have_names_for_users():
    assert [str(layer) for layer in sorted(Layer)] == [
        *("default", "conf", "known", "profile", "env", "command line", "model", "chosen"),
    ]


def test_a_value_that_is_put_lies_over_what_was_there(draft):
    draft.put("model.max_model_len", 64, Layer.MODEL, "the model's own files")
    draft.put("model.max_model_len", 32, Layer.CHOSEN, "the backend")
    assert draft["model.max_model_len"] == 32 and draft.where("model.max_model_len") == "the backend"
    origins = draft.origins["model.max_model_len"]
    assert [(origin.layer, origin.value) for origin in origins] == [
        *((Layer.CHOSEN, 32), (Layer.MODEL, 64), (Layer.DEFAULT, None)),
    ]
    assert not draft.set_by_user("model.max_model_len") and draft.layer("model.max_model_len") == Layer.CHOSEN


def test_keys_are_asked_for_by_their_dotted_names(draft):
    assert draft["metrics.perf_log.enabled"] is False and draft["metrics"]["perf_log"]["dir"] == "/tmp"
    assert "metrics.perf_log.dir" in draft and "metrics.perf" not in draft and "device.name" not in draft
    with pytest.raises(KeyError):
        draft["metrics.perf"]


def test_the_user_s_own_word_is_told_from_that_of_an_option(draft):
    assert draft.set_by_user("serve.max_queue") and draft.set_by_user("backend.name")
    assert draft.named_keys() == ["backend", "serve.max_queue"]
    assert draft.rank("serve.max_queue") > draft.rank("backend.name") > draft.rank("serve.port")
    assert draft.where("serve.max_queue") == "serve.max_queue=7" and draft.where("serve.drain_seconds") == ""
    profile = Origin(Layer.PROFILE, "x.yaml", 1, "profile=site")
    assert profile.names_key and not Origin(Layer.PROFILE, "y.yaml", 1, "process=mine").names_key


def test_only_what_the_user_named_is_noted_as_unused(draft):
    for key in ("serve.max_queue", "serve.port", "backend.name"):
        draft.note_unused(key, "nobody waits")
    assert draft.notices == ["serve.max_queue (set by serve.max_queue=7) is not used by this run: nobody waits"]


def test_the_configuration_is_typed_by_the_chosen_options_and_frozen(draft):
    config = draft.config()
    assert type(config.backend) is InductorConfig and config.backend.freezing is None
    assert config.model.dtype is Dtype.auto and config.serve.max_queue == 7
    assert config.pipeline.stages == ["load", "compile", "warmup", "serve"]
    with pytest.raises(FrozenInstanceError):
        config.serve.port = 1
    # A copy: what is put later does not reach it.
    draft.put("backend.freezing", True, Layer.CHOSEN, "the test")
    assert config.backend.freezing is None and draft.config().backend.freezing is True


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("serve.port", 65536, "serve.port=65536 must be int <= 65535"),
        ("serve.port", "http", "serve.port=http must be int"),
        ("serve.port", None, "serve.port=null must be int"),
        ("model.dtype", "int8", "model.dtype=int8 must be auto, float32, bfloat16 or float16"),
        ("pipeline.stages", ["load", "run"], "pipeline.stages=[load,run] must be load, compile, warmup or serve"),
        ("metrics.perf_log.enabled", "yes", "metrics.perf_log.enabled=yes must be bool"),
        ("artifacts.trusted", "abc", "artifacts.trusted=abc must be list"),
        ("workload.rate", 0, "workload.rate=0 must be float > 0.0"),
    ],
)
def test_a_value_of_any_layer_is_checked_and_named_with_its_origin(draft, key, value, says):
    draft.put(key, value, Layer.KNOWN, "mine (mine.yaml)")
    with pytest.raises(ConfigError) as caught:
        draft.config()
    assert str(caught.value) == f"{says} (set by mine (mine.yaml))"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (2.5, "2.5"), ("a b", "a b"), (["16x2", None], "[16x2,null]"), ((), "[]")],
)
def test_values_are_written_as_users_write_them(value, text):
    assert write_value(value) == text


def test_a_draft_without_origins_is_all_defaults():
    draft = Draft({"serve": {"port": 1}}, {}, {}, {})
    assert draft.layer("serve.port") == Layer.DEFAULT and draft.where("serve.port") == "" and draft.named_keys() == []
    with pytest.raises(AssertionError, match="not read yet"):
        assert draft.model
