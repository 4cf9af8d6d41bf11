"""A plugin's source that fails: runs of other models go on, and one that needs it ends with a line that names it."""

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError, ModelError, PluginError
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import ECHO

SOURCE = """
from sendnn_pipeline.errors import ModelError

class AcmeSource:
    def __init__(self):
        {init}

    def claims(self, path):
        {claims}

    def locate(self, model, cache_dir):
        {locate}

    def fetch(self, model, cache_dir):
        {fetch}
"""
PARTS = {"init": "...", "claims": "return path.startswith('acme:')", "locate": "return None", "fetch": "return HERE"}
RAISE = "raise OSError('no network')"
UNCHOSEN = {"its factory": {"init": RAISE}, "claims": {"claims": RAISE}}


@pytest.fixture
def acme(site):
    """Install a source with some parts replaced."""

    def acme(**parts):
        code = SOURCE.format(**{**PARTS, **parts})
        install(site, "acme", code + implement("register_model_sources(register)", "register('acme', AcmeSource)"))

    return acme


def composed(*words):
    return compose_run(load_context(clean_environ()), parse_overrides(["model=local", *words]))


@pytest.mark.parametrize("part", UNCHOSEN)
def test_one_that_fails_ends_no_run_of_another_s_model(acme, with_echo, tiny, in_process, part):
    acme(**UNCHOSEN[part])
    ended = in_process(*ECHO, f"model.path={tiny}", "backend=nothing", **with_echo)
    assert "unknown option backend=nothing" in ended.stderr
    ended = in_process(*ECHO, f"model.path={tiny}", "engine.fail=load", "pipeline=precompile", **with_echo)
    warning = "warning: plugin acme is called no more: model source acme failed: OSError: no network"
    assert warning in ended.stdout and "the load fails, as it was told to" in ended.stderr


@pytest.mark.parametrize("part", UNCHOSEN)
def test_a_path_that_only_it_could_claim_names_it(acme, part):
    acme(**UNCHOSEN[part])
    line = r"model.path=acme:7 is not .*; plugin acme failed \(model source acme failed: OSError: no network \(acme"
    with pytest.raises(ConfigError, match=line):
        composed("model.path=acme:7")


@pytest.mark.parametrize("answer", ["'acme'", "7", "[path]"])
def test_a_claim_is_true_or_false(acme, tiny, answer):
    acme(claims=f"return {answer}")
    assert composed(f"model.path={tiny}", "model.dtype=float32").source.name == "folder", "the others go on"
    line = (
        r"plugin acme failed \(model source acme of plugin acme returned .* from claims, which returns True or False\)"
    )
    with pytest.raises(ConfigError, match=line):
        composed("model.path=acme:7")
    acme(claims="return None")
    assert composed(f"model.path={tiny}").source.name == "folder"


def test_one_that_is_chosen_and_cannot_be_made_ends_the_run(acme):
    acme(init=RAISE)
    line = r"model source acme of plugin acme failed: OSError: no network \(acme_module.py:9\)"
    with pytest.raises(PluginError, match=line):
        composed("model.path=acme:7", "model.source=acme")


@pytest.mark.parametrize("part", ["locate", "fetch"])
def test_one_that_fails_at_its_work_is_named(acme, tmp_path, part):
    acme(**{part: RAISE})
    run = composed("model.path=acme:7", f"cache_dir={tmp_path}")
    with pytest.raises(PluginError, match="model source acme of plugin acme failed: OSError: no network"):
        getattr(run, part)()


def test_what_it_says_itself_is_passed_on(acme, tmp_path):
    acme(fetch="raise ModelError('acme:7 is sold out', hint='take acme:8')")
    with pytest.raises(ModelError, match=r"^acme:7 is sold out; take acme:8$"):
        composed("model.path=acme:7", f"cache_dir={tmp_path}").fetch()


def test_what_is_not_a_folder_is_named(acme, tmp_path):
    acme(fetch="return str(HERE)")
    with pytest.raises(PluginError, match=r"plugin acme returned '.*' and not the Path of a folder"):
        composed("model.path=acme:7", f"cache_dir={tmp_path}").fetch()
