"""The user's words: overrides and flags, quoting that survives Hydra, short forms."""

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.aliases import SHORT_FORMS, expand_alias
from sendnn_pipeline.config.command_line import parse_command_line, parse_overrides
from sendnn_pipeline.config.compose import quote
from sendnn_pipeline.config.exact_words import exact_words
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
        ("serve", "write key=value; a tool's name is the first word, and --help lists"),
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
        (["--resolve"], "--cfg job"),
        (["--experimental-rerun", "x"], "repeats nothing"),
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
    assert command.flags.for_hydra == ("--multirun", "--config-dir=/x") and command.flags.config_dir == "/x"
    assert [override.key for override in command.overrides] == ["serve", "workload.seed", "hydra.sweep.dir"]
    seed = command.overrides[1]
    assert seed.sweeps and seed.expanded == ("workload.seed=1", "workload.seed=2")
    assert command.overrides[2].of_hydra and not seed.of_hydra
    assert command.argv(["inserted=1"], ["serve=bench"]) == [
        *("--multirun", "--config-dir=/x"),
        *("inserted=1", "workload.seed=1,2", "hydra.sweep.dir=/y"),
    ]
    for flag in ("--cfg=job", "--help", "--info", "--info=config", "--hydra-help"):
        assert parse_command_line([flag, "serve=bench"]).flags.shows_only
    assert parse_command_line(["-sc", "install=bash"]).flags.shows_only


def test_the_short_form_of_a_key_is_written_in_full(context):
    assert {alias: SHORT_FORMS[alias] for alias in SHORT_FORMS} == {"known": "known.name"}
    assert set(SHORT_FORMS.values()) <= context.schemas.keys().keys()
    assert expand_alias("known=none") == "known.name=none" and expand_alias("known.file=x") == "known.file=x"
    (override,) = parse_overrides(["known=none,auto"])
    assert override.key == "known.name" and override.expanded == ("known.name=none", "known.name=auto")
    variable = load_context(clean_environ(SENDNN_PIPELINE__known="none")).env
    assert [(value.key, value.value) for value in variable] == [("known.name", "none")]


TYPED = ["6063e25", "0012345", "1_000", "true", "No", "1.50", "nan", "+7"]


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("way", ["word", "variable", "file", "list", "mapping", "sweep"])
def test_text_is_the_characters_typed_by_every_way_in(tmp_path, text, way):
    """What the same characters in quotes would be: no number, no boolean, no octal is made of them."""
    (tmp_path / "profile").mkdir()
    file = tmp_path / "profile" / "site.yaml"
    file.write_text(f"# @package _global_\nmodel: {{revision: {text}}}\nartifacts: {{trusted: [{text}]}}\n")
    variables = {"SENDNN_PIPELINE__model__revision": text} if way == "variable" else {}
    words = {
        "word": [f"model.revision={text}"],
        "file": ["profile=site"],
        "list": [f"artifacts.trusted=[{text},a]"],
        "mapping": ["backend=sendnn", f"backend.environment={{A:{text}}}"],
    }.get(way, [])
    context = load_context(clean_environ(**variables), str(tmp_path))
    if way == "sweep":
        (sweep,) = exact_words(parse_overrides([f"model.revision={text},'a,b',null"]), context.schemas.keys())
        (again,) = parse_overrides([sweep.word])
        singles = [exact_words(parse_overrides([one]), context.schemas.keys())[0].value for one in again.expanded]
        assert singles == [text, "a,b", None]
        return
    layered = context.compose(parse_overrides(words))
    draft = layered.draft
    found = {"list": "artifacts.trusted", "mapping": "backend.environment"}.get(way, "model.revision")
    expected = {"list": [text, "a"], "mapping": {"A": text}}.get(way, text)
    assert draft[found] == expected
    if way != "mapping":
        assert draft.origins[found][0].value == expected
    if way == "file":
        assert draft["artifacts.trusted"] == [text]


def test_a_number_stays_one_where_the_key_takes_one(context):
    draft = context.compose(
        parse_overrides(["process.num_cpus=3", "engine.normalize=true", "model.revision=null"])
    ).draft
    assert draft["process.num_cpus"] == 3 and draft["engine.normalize"] is True and draft["model.revision"] is None


@pytest.mark.parametrize("word", ["warmup.prompt_lens=64", "warmup.prompt_lens=[64]"])
def test_a_single_item_is_a_list_of_one(context, word):
    assert context.compose(parse_overrides([word])).draft["warmup.prompt_lens"] == [64]
