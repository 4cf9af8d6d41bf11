"""The user's words: overrides and flags, quoting that survives Hydra, short forms."""

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.aliases import SHORT_FORMS, expand_alias
from sendnn_pipeline.config.command_line import parse_command_line, parse_overrides
from sendnn_pipeline.config.compose import quote
from sendnn_pipeline.errors import ConfigError
from tests.conftest import clean_environ


@pytest.mark.parametrize(
    "text",
    ["a,b", 'q"x', "a=b", "back\\", '\\"', "it's", "null", "1", "[1,2]", "{a: 1}", "a b", "", "${x}", "choice(1)"],
)
def test_quoting_survives_hydra(context, text):
    (override,) = parse_overrides([f"metrics.perf_log.dir={quote(text)}"])
    assert override.value == text and not override.sweeps
    if "${" not in text:
        assert context.compose([override]).draft["metrics.perf_log.dir"] == text


def test_values_of_every_kind_are_quoted(context):
    value = {"a": [1, 2.5, None, True, "x,y"], "b": {"c": "d"}}
    (override,) = parse_overrides([f"backend.environment={quote(value)}"])
    assert override.value == value and not override.sweeps


def test_a_comma_in_an_environment_value_is_no_sweep():
    context = load_context(clean_environ(SENDNN_INFERENCE_PERF_METRIC_LOGGING_DIR="/tmp/a,b"))
    assert context.compose([]).draft["metrics.perf_log.dir"] == "/tmp/a,b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.path=a==b", "quote it: 'model.path=\"a==b\"'"),
        ("+serve.more=1", "adds or deletes"),
        ("~serve", "adds or deletes"),
        ("serve", "is not an override"),
        ("serve.port=[1,", "is not an override"),
        ("=1", "is not an override"),
    ],
)
def test_a_word_that_is_not_an_override(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_overrides([text])
    assert message in str(caught.value) and text.lstrip("+~") in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bogus"], "--bogus"),
        (["--config-name=other"], "--config-dir"),
        (["--config-path=/x"], "--config-dir"),
        (["--cfg"], "--help lists the flags"),
    ],
)
def test_a_flag_that_is_not_taken(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_command_line(argv)


def test_flags_and_overrides_are_told_apart_in_any_order():
    command = parse_command_line(["serve=bench", "--config-dir", "/x", "-m", "workload.seed=1,2", "hydra.sweep.dir=/y"])
    assert command.flags == ("--config-dir", "/x", "-m") and command.multirun and command.config_dir == "/x"
    assert [override.key for override in command.overrides] == ["serve", "workload.seed", "hydra.sweep.dir"]
    seed = command.overrides[1]
    assert seed.sweeps and seed.expanded == ("workload.seed=1", "workload.seed=2")
    assert command.overrides[2].of_hydra and not seed.of_hydra
    assert command.argv(["inserted=1"], ["serve=bench"]) == [
        *("--config-dir", "/x", "-m"),
        *("inserted=1", "workload.seed=1,2", "hydra.sweep.dir=/y"),
    ]
    for flag in ("--cfg=job", "--help", "--info=config"):
        assert parse_command_line([flag]).shows_only


def test_the_short_form_of_a_key_is_written_in_full(context):
    assert {alias: SHORT_FORMS[alias] for alias in SHORT_FORMS} == {"known": "known.name"}
    assert set(SHORT_FORMS.values()) <= context.schemas.keys().keys()
    assert expand_alias("known=none") == "known.name=none" and expand_alias("known.file=x") == "known.file=x"
    (override,) = parse_overrides(["known=none,auto"])
    assert override.key == "known.name" and override.expanded == ("known.name=none", "known.name=auto")
    variable = load_context(clean_environ(SENDNN_PIPELINE__known="none")).env
    assert [(value.key, value.value) for value in variable] == [("known.name", "none")]
