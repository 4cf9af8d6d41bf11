"""The layer of known configurations: over conf/, under all that the user sets."""

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.draft import Layer
from sendnn_pipeline.config.options import own_conf_dir
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import check_names, read_known
from sendnn_pipeline.known.layer import Platform, apply_known
from tests.conftest import clean_environ
from tests.known.models import LOOKALIKES, MODELS

TP4 = {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "131072", "FLEX_HDMA_P2PSIZE": "268435456", "FLEX_HDMA_COLLSIZE": "33554432"}


@pytest.fixture(scope="module")
def registry():
    return check_names(read_known(own_conf_dir() / "known"))


def lay(registry, model, *words, environ=None, tp_size=1, machine="x86_64"):
    context = load_context(clean_environ(**(environ or {})))
    words = ["model=local", "model.path=/nowhere", "backend=sendnn", *words]
    draft = compose_run(context, parse_overrides(words)).draft
    platform = Platform("sendnn", machine, context.environ, tp_size)
    apply_known(draft, registry, MODELS[model][0] if isinstance(model, str) else model, platform)
    return draft


def test_it_is_laid_over_conf_and_under_the_user(registry):
    found = lay(registry, "granite-embedding-30m-english")
    assert found["warmup.shapes"] == ["512x64"] and found.notices == []
    origin, under = found.origins["warmup.shapes"][:2]
    assert (
        origin.layer == Layer.KNOWN and "granite-embedding-30m-english.yaml" in origin.where and under.value == "auto"
    )
    assert found["known.name"] == "granite-embedding-30m-english"


@pytest.mark.parametrize(
    ("words", "environ", "says"),
    [
        (["warmup.shapes=[256x8]"], {}, "[256x8] (warmup.shapes=[256x8])"),
        ([], {"SENDNN_INFERENCE_WARMUP_PROMPT_LENS": "128"}, "[128x1]"),
        (["warmup=balanced"], {}, "[32x32,64x16,128x8,256x4] (conf/warmup/balanced.yaml (warmup=balanced))"),
    ],
)
def test_a_user_s_different_shapes_stay_and_both_are_named(registry, words, environ, says):
    found = lay(registry, "granite-embedding-30m-english", *words, environ=environ)
    (notice,) = found.notices
    assert notice.startswith(
        "known configuration granite-embedding-30m-english has warmup.shapes=[512x64], and this run"
    )
    assert says in notice
    assert found["warmup.shapes"] != ["512x64"]
    with pytest.raises(ConfigError, match=r"known.require=true, and known configuration .* has warmup.shapes"):
        lay(registry, "granite-embedding-30m-english", *words, "known.require=true", environ=environ)


def test_a_user_s_equal_shapes_fit(registry):
    found = lay(registry, "granite-embedding-30m-english", "warmup.shapes=[512x64]", "known.require=true")
    assert found.notices == [] and found["warmup.shapes"] == ["512x64"]


def test_device_values_of_the_environment_stay_and_are_named(registry):
    found = lay(registry, "granite-3.3-8b-instruct", tp_size=4, environ={"FLEX_HDMA_P2PSIZE": "1024"})
    assert found["cache.num_blocks"] == 8192 and found["model.max_model_len"] == 32768
    assert found["backend.environment"] == {key: TP4[key] for key in TP4 if key != "FLEX_HDMA_P2PSIZE"}
    (notice,) = found.notices
    assert notice.endswith("has FLEX_HDMA_P2PSIZE=268435456, and the environment 1024")
    with pytest.raises(ConfigError, match=r"known\.require=true, and known configuration .* has FLEX_HDMA_P2PSIZE"):
        lay(registry, "granite-3.3-8b-instruct", "known.require=true", tp_size=4, environ={"FLEX_HDMA_P2PSIZE": "1024"})
    same = lay(registry, "granite-3.3-8b-instruct", tp_size=4, environ={"FLEX_HDMA_P2PSIZE": "268435456"})
    assert same.notices == []
    unset = lay(registry, "granite-3.3-8b-instruct", "known.require=true", tp_size=4)
    assert unset["backend.environment"] == TP4 and unset.notices == []


def test_the_user_s_blocks_stay_and_none_are_set_without_an_entry(registry):
    for words, blocks, notices in (
        ([], 8192, 0),
        (["cache.num_blocks=500"], 500, 1),
        (["cache.num_blocks=8192"], 8192, 0),
    ):
        found = lay(registry, "granite-3.3-8b-instruct", *words, tp_size=4)
        assert found["cache.num_blocks"] == blocks and len(found.notices) == notices
    found = lay(registry, LOOKALIKES["granite-4.1-3b"], tp_size=4)
    assert found["cache.num_blocks"] is None and found.notices == []
    assert found["known.name"] == "auto" and found["backend.environment"] == {}


def test_ranks_that_are_not_known_are_a_notice(registry):
    found = lay(registry, "granite-3.3-8b-instruct", tp_size=8)
    assert found.notices == ["known configuration granite-3.3-8b-instruct has tp_size=1 or 2 or 4, and this run 8"]
    assert found["cache.num_blocks"] is None
    with pytest.raises(ConfigError, match="has tp_size=4, and this run 1"):
        lay(registry, "granite-4.1-30b", "known.require=true")


def test_what_is_required_is_refused_with_the_nearest(registry):
    model = MODELS["granite-4-8b-dense"][0] | {"num_hidden_layers": 36}
    with pytest.raises(ConfigError, match=r"no known configuration fits this granite model") as caught:
        lay(registry, model, "known.require=true")
    assert "granite-4-8b-dense (num_hidden_layers is 36 instead of 40)" in caught.value.hint
    assert caught.value.where == "known.require=true"
    with pytest.raises(ConfigError, match=r"exclude each other"):
        lay(registry, model, "known.require=true", "known=none")


def test_one_can_be_named_or_none(registry):
    named = lay(registry, "granite-embedding-30m-english", "known=granite-embedding-30m-english")
    assert named["warmup.shapes"] == ["512x64"]
    assert lay(registry, "granite-embedding-30m-english", "known=none")["warmup.shapes"] == "auto"
    with pytest.raises(ConfigError, match="is for another model: num_hidden_layers is 6 instead of 12"):
        lay(registry, "granite-embedding-30m-english", "known=granite-embedding-125m-english")
    with pytest.raises(ConfigError) as caught:
        lay(registry, "granite-embedding-30m-english", "known.name=granite-4.3-8b")
    assert str(caught.value).startswith("unknown known configuration granite-4.3-8b (set by known.name=granite-4.3-8b)")
    assert caught.value.hint == "did you mean granite-4.2-8b?"
    with pytest.raises(
        ConfigError, match=r"is for backend sendnn .* on x86_64 or ppc64le, and this is sendnn on s390x"
    ):
        lay(registry, "all-roberta-large-v1", "known=all-roberta-large-v1", machine="s390x")


@pytest.mark.parametrize("word", [[], ["known=granite-4.2-8b"], ["known.name=granite-4.2-8b"]])
def test_an_alias_is_accepted_and_shown(registry, word):
    found = lay(registry, "granite-4-8b-dense", *word)
    assert found["known.name"] == "granite-4-8b-dense"
    assert found["model.max_model_len"] == 3072
    assert found.where("known.name").endswith("; also known as granite-4.2-8b")
