"""Entries of known configurations: what is one, what is not, and what is read at all."""

import json

import pytest

from sendnn_pipeline.config.options import own_conf_dir
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import KnownConfiguration, check_names, parse_known, read_known, read_known_file

FOLDER = own_conf_dir() / "known"


def entry(name, **more):
    return {"name": name, "match": {"model_type": "bert"}, "backends": ["eager"], "runtimes": [{}], **more}


def static(*shapes, **more):
    return {"warmup.shapes": list(shapes), **more}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "Expected `object`, got `array`"),
        ("text", "Expected `object`, got `str`"),
        (entry(""), "Expected `str` of length >= 1 - at `$.name`"),
        ({"name": "a"}, "a: Object missing required field `match`"),
        (entry("a", shape=1), "a: Object contains unknown field `shape`; an entry has name, aliases, match, backends"),
        (entry("a", where="b.yaml"), "a: Object contains unknown field `where`"),
        (entry("a", match={"x": 1}), "a: match lacks model_type"),
        (entry("a", match={"model_type": "b", "c": {"d": None}}), "a: match.c.d is null"),
        (entry("a", backends=[]), "`array` of length >= 1 - at `$.backends`"),
        (entry("a", platforms="x86_64"), "Expected `array`, got `str` - at `$.platforms`"),
        (entry("a", aliases=[1]), "Expected `str`, got `int` - at `$.aliases[0]`"),
        (entry("a", runtimes=[]), "`array` of length >= 1 - at `$.runtimes`"),
        (entry("a", runtimes=["b"]), "Expected `object`, got `str` - at `$.runtimes[0]`"),
        (entry("a", runtimes=[{}, {"tp_size": "2"}]), "Expected `int`, got `str` - at `$.runtimes[1].tp_size`"),
        (entry("a", runtimes=[{"tp_size": 0}]), "Expected `int` >= 1 - at `$.runtimes[0].tp_size`"),
        (entry("auto"), "known.name=auto is reserved"),
        (entry("a", aliases=["none"]), "known.name=none is reserved"),
    ],
)
def test_a_wrong_entry_is_one_line_with_file_and_field(content, says):
    with pytest.raises(ConfigError) as caught:
        parse_known(content, "conf/known/a.yaml")
    assert str(caught.value).startswith("conf/known/a.yaml: ") and says in str(caught.value)


@pytest.mark.parametrize(
    ("runtimes", "repeated"),
    [
        ([{}, {}], True),
        ([static("64x4", "128x2"), static("128x2", "64x4")], True),
        ([static("64x4"), static("64x4", **{"scheduler.max_num_batched_tokens": 64})], True),
        ([{"model.max_model_len": 8192, "cache.num_blocks": blocks} for blocks in (1, 2)], True),
        ([static("64x4"), static("64x8")], False),
        ([{"model.max_model_len": 8192}, {"model.max_model_len": 4096}], False),
        ([{"model.max_model_len": 8192}, {"model.max_model_len": 8192, "tp_size": 2}], False),
    ],
)
def test_runtimes_that_nothing_tells_apart_are_an_error(runtimes, repeated):
    if repeated:
        with pytest.raises(ConfigError, match=r"a: runtimes\[1\] repeats tp_size, warmup\.shapes, model\."):
            parse_known(entry("a", runtimes=runtimes), "a.yaml")
    else:
        assert len(parse_known(entry("a", runtimes=runtimes), "a.yaml").runtimes) == len(runtimes)


def test_an_entry_made_in_python_is_checked_too():
    with pytest.raises(ValueError, match="match lacks model_type"):
        KnownConfiguration(name="a", match={}, backends=("eager",), runtimes=())


def test_names_and_aliases_are_unique():
    one, two = (parse_known(entry(name, aliases=["same"]), f"{name}.yaml") for name in ("one", "two"))
    with pytest.raises(ConfigError, match=r"known configuration same is defined by one\.yaml and two\.yaml"):
        check_names([one, two])
    assert check_names([one]) == (one,)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", '{"name": "a"'])
def test_a_file_that_is_not_yaml_is_named(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    for read in (lambda: read_known(tmp_path), lambda: read_known_file(str(file), "test")):
        with pytest.raises(ConfigError) as caught:
            read()
        assert str(caught.value).startswith(f"{file} cannot be read as YAML") and "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_known(tmp_path)
    with pytest.raises(ConfigError, match=r"known\.file=.* is not a file"):
        read_known_file(str(tmp_path), "test")


def test_a_user_s_file_has_one_entry_or_a_list(tmp_path):
    file = tmp_path / "mine.yaml"
    for content, count in ((entry("a"), 1), ([entry("a"), entry("b")], 2), (None, 0)):
        file.write_text(json.dumps(content))
        assert len(read_known_file(str(file), "test")) == count


def test_files_that_do_not_mention_the_backend_are_not_parsed(tmp_path):
    (tmp_path / "broken.yaml").write_text("backends: [sendnn\n")
    (tmp_path / "whole.yaml").write_text(json.dumps(entry("whole")))
    assert [config.name for config in read_known(tmp_path, "eager")] == ["whole"]
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        read_known(tmp_path, "sendnn")
    assert read_known(tmp_path / "missing") == ()


def test_ours_are_named_like_their_files_and_set_keys_that_exist(context):
    ours = check_names(read_known(FOLDER))
    keys = context.schemas.keys().keys()
    for config in ours:
        assert config.where == str(FOLDER / f"{config.name}.yaml")
        assert {key for runtime in config.runtimes for key in runtime.values} <= keys, config.name
