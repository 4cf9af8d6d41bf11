"""The schemas of options: types, defaults and sentences of every key, and what ``engine=auto`` can be told."""

from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

import pytest
from msgspec import Meta

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.schema import BackendConfig, EngineConfig, RunConfig, ServeConfig
from sendnn_pipeline.config.schemas import SchemaStore, docs_of, keys_of
from sendnn_pipeline.errors import ConfigError, PluginError
from tests.conftest import clean_environ, resolved_run
from tests.served import ECHO, ECHO_FOLDER

Positive = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Of the options below."""

    depth: int = 2
    """How deep.

    In layers.
    """


@dataclass(frozen=True, kw_only=True)
class One(EngineConfig):
    """An engine's."""

    width: Positive = 1
    """How wide."""
    both: int = 7
    """Of both engines."""
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Two(EngineConfig):
    """Another engine's."""

    width: str = "wide"
    """How wide, in words."""
    both: int = 8
    """Of both engines."""
    names: dict[str, str] = field(default_factory=dict)
    bare: bool | None = None


@pytest.fixture
def store():
    store = SchemaStore()
    store("engine", "one", One)
    store("engine", "two", Two)
    return store


def test_keys_have_their_types_bounds_included(store):
    keys = store.keys()
    assert keys["engine.both"] is int and keys["engine.inner.depth"] is int
    assert keys["engine.names"] == dict[str, str] and keys["engine.bare"] == bool | None
    assert keys["engine.width"] is Any, "two engines type it differently: the one that runs decides"
    assert keys["process.num_cpus"] == Annotated[int, Meta(ge=0)]
    assert keys.keys() >= keys_of(RunConfig).keys()


def test_sentences_are_the_text_under_the_field_and_name_the_options_that_have_the_key(store):
    docs = store.docs()
    assert docs["engine.both"] == "`engine=one` and `engine=two`: Of both engines."
    assert docs["engine.width"] == "`engine=one`: How wide. `engine=two`: How wide, in words."
    assert docs["engine.inner.depth"] == "`engine=one`: How deep. In layers."
    assert docs["engine.name"] == "Registered engine; `auto` chooses by the model."
    assert "engine.bare" not in docs and docs_of(Two)["both"] == "Of both engines."


def test_defaults_are_the_group_s_own_before_those_of_an_option(store):
    store("serve", "mine", type("Mine", (ServeConfig,), {"target": "mine"}))
    defaults = store.defaults()
    assert defaults["serve.target"] == "http" and defaults["engine.both"] == 7
    assert defaults["engine.inner.depth"] == 2 and defaults["engine.bare"] is None and defaults["engine.names"] == {}


def test_engine_auto_takes_the_keys_of_every_engine(store):
    base = store.base("engine")
    hints = get_type_hints(base)
    assert hints == {
        "name": str,
        "width": Any,
        "both": int,
        "inner": Inner,
        "names": dict[str, str],
        "bare": bool | None,
    }
    made = base()
    assert issubclass(base, EngineConfig) and made.name == "auto" and (made.width, made.both) == (1, 7)
    assert store.base("backend") is BackendConfig
    assert store.owners("engine.both") == ["engine=one", "engine=two"] and store.owners("engine.name") == []


def test_a_schema_without_a_name_types_the_whole_group(store):
    store("backend", "", type("All", (BackendConfig,), {}))
    assert store.base("backend").__name__ == "All"
    assert "backend.name" in store.docs() and not store.docs()["backend.name"].startswith("`")


def test_a_name_has_one_schema(store):
    with pytest.raises(PluginError, match=rf"schema engine/one is registered by {__name__} and {__name__}"):
        store("engine", "one", Two)


def test_keys_of_another_engine_are_accepted_and_noted(tiny, monkeypatch):
    monkeypatch.syspath_prepend(ECHO_FOLDER)
    words = [*ECHO, f"model.path={tiny}", "engine.step_ms=2.5"]
    echo = resolved_run([*words, "engine.task=embed"])
    assert echo.run.config.engine.step_ms == 2.5 and not hasattr(echo.run.config.engine, "task")
    assert echo.draft.notices == [
        "engine.task (set by engine.task=embed) is not used by this run: it belongs to another engine"
    ]
    pooling = resolved_run([*words, "engine=auto"])
    assert pooling.run.config.engine.name == "pooling" and not hasattr(pooling.run.config.engine, "step_ms")
    assert "engine.step_ms (set by engine.step_ms=2.5) is not used by this run" in pooling.draft.notices[0]
    with pytest.raises(ConfigError, match=r"unknown key engine\.step_mz; did you mean engine\.step_ms\?"):
        resolved_run([*words, "engine.step_mz=2"])
    variable = clean_environ(SENDNN_PIPELINE__engine__step_ms="4")
    assert resolved_run(words[:-1], variable).run.config.engine.step_ms == 4.0
    assert load_context(variable).compose(parse_overrides(words[:-1])).draft["engine.step_ms"] == 4.0


def test_every_key_of_ours_has_a_type_a_default_and_a_sentence(context):
    keys, docs, defaults = context.schemas.keys(), context.schemas.docs(), context.schemas.defaults()
    assert keys.keys() == defaults.keys()
    assert keys.keys() - docs.keys() == set(), "write the text under the field"
    for key, text in docs.items():
        assert text.endswith(".") and "\n" not in text and text.count("`") % 2 == 0, key
