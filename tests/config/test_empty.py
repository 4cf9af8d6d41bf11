"""Empty text counts as unset where a key may be null, and is refused where that would leave something open."""

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.empty import MEANT, PROTECTING
from sendnn_pipeline.errors import ConfigError
from tests.conftest import clean_environ

DTYPE = "model.dtype=float32"


def composed(*words, config_dir=None):
    return compose_run(load_context(clean_environ(), config_dir), parse_overrides([DTYPE, *words])).draft


def keys(context):
    return [key for key, kind in context.schemas.keys().items() if kind == str | None]


def test_every_key_that_may_be_null_takes_empty_text_as_unset(context):
    found = [key for key in keys(context) if key not in (*MEANT, *PROTECTING)]
    assert {"model.served_name", "cache_dir", "serve.uds", "serve.input", "warmup.trace"} <= set(found)
    for key in found:
        option = {"serve.input": "serve=batch", "serve.output": "serve=bench"}.get(key, "serve=http")
        unset = composed(option)[key]
        for text in ("", "' '"):
            draft = composed(option, f"{key}={text}")
            assert draft[key] == unset
            assert draft.notices == [f"{key} (set by {key}={text}) is empty and counts as unset"]


def test_what_a_lower_layer_says_holds(tmp_path):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "site.yaml").write_text("# @package _global_\nmodel: {served_name: mine}\n")
    words = ("profile=site", "model.served_name=")
    assert composed(*words, config_dir=str(tmp_path))["model.served_name"] == "mine"


@pytest.mark.parametrize("key", PROTECTING)
def test_what_protects_something_is_refused(key):
    with pytest.raises(ConfigError) as caught:
        composed(f"{key}=")
    assert str(caught.value) == f"{key} is empty (set by {key}=); give it a value, or leave it out"


def test_an_empty_prompt_is_a_prompt():
    assert composed("engine.prompt_name=")["engine.prompt_name"] == ""


def test_a_folder_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"^metrics.perf_log.dir= must be text of length >= 1"):
        composed("metrics.perf_log.dir=")
