"""Wrappers and ordering are pluggy's own: wrappers, new and old, are called around each plugin, and fail by themselves.

What a wrapper gets and returns is pluggy's list of answers, here of one plugin.
"""

import pytest

from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.hooks.manager import BUILTINS
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install

WRAPPER, OLD_WRAPPER = "wrapper=True", "hookwrapper=True"
CHECKS = "check_config(run)"
BACKENDS = {"eager", "inductor", "sendnn", "sendnn_compile_only"}


def check(site, name, body, options=""):
    install(site, name, implement(CHECKS, body, options=options))


def collect(plugins=None):
    """Return what each plugin of a test says of a run, which is its name."""
    plugins = plugins or load_plugins(clean_environ())
    plugins.manager.unregister(name="builtin.backends")
    return plugins.collect("check_config", run=lambda name: name)


def test_a_wrapper_sees_and_changes_the_answer_of_each_plugin(site):
    check(site, "one", "return [f'{run} of one']")
    check(site, "two", "return [f'{run} of two']")
    check(site, "polite", "(problems,) = yield\nreturn [[f'please, {problem}' for problem in problems]]", WRAPPER)
    assert collect() == {"one": ["please, one of one"], "two": ["please, two of two"]}


def test_an_old_wrapper_does_the_same(site):
    check(site, "one", "return ['no']")
    body = "outcome = yield\noutcome.force_result([[f'old {problem}' for problem in outcome.get_result()[0]]])"
    check(site, "old", body, OLD_WRAPPER)
    assert collect() == {"one": ["old no"]}


def test_wrappers_of_wrappers(site):
    check(site, "one", "return ['no']")
    for name in ("inner", "outer"):
        options = f"{WRAPPER}, {'trylast' if name == 'inner' else 'tryfirst'}=True"
        check(site, name, f"((problem,),) = yield\nreturn [[f'{name}({{problem}})']]", options)
    assert collect() == {"one": ["outer(inner(no))"]}


def test_built_ins_come_first_then_names_and_ordering_counts(site):
    body = "register(__name__, object)"
    for name, options in (("a", ""), ("b", "trylast=True"), ("c", "tryfirst=True"), ("d", "")):
        install(site, name, implement("register_model_sources(register)", body, options=options))
    install(site, "e", implement("register_model_sources(register)", "return (yield)", options=WRAPPER))
    plugins = load_plugins(clean_environ())
    assert plugins.names("register_model_sources") == ["c", "builtin.models", "a", "d", "b"]
    assert list(plugins.registry("register_model_sources", "model source").entries) == [
        *("c_module", "folder", "hub", "package", "a_module", "d_module", "b_module"),
    ]


BEFORE, AFTER = "raise OSError('card lost')\nyield", "answer = yield\nraise OSError('card lost')"


@pytest.mark.parametrize(("body", "options"), [(BEFORE, WRAPPER), (AFTER, WRAPPER), (BEFORE, OLD_WRAPPER)])
def test_a_wrapper_that_fails_is_at_fault_and_what_it_wraps_goes_on_without_it(site, body, options):
    check(site, "one", "return ['no']")
    check(site, "two", "return ['never']")
    check(site, "wrap", body, options)
    plugins = load_plugins(clean_environ())
    assert collect(plugins) == {"one": ["no"], "two": ["never"]}
    assert [failure.name for failure in plugins.failures] == ["wrap"]
    assert plugins.failures[0].reason == "check_config failed: OSError: card lost"


def test_names_that_a_failing_wrapper_saw_registered_are_registered_once(site):
    hook, body = "register_compile_backends(register)", "yield\nraise OSError('card lost')"
    install(site, "wrap", implement(hook, body, options=WRAPPER))
    plugins = load_plugins(clean_environ())
    assert plugins.registry("register_compile_backends", "backend").entries.keys() == BACKENDS
    assert [failure.name for failure in plugins.failures] == ["wrap"] and len(plugins.loaded) == len(BUILTINS)


@pytest.mark.parametrize("options", [WRAPPER, OLD_WRAPPER])
def test_a_plugin_that_fails_within_a_wrapper_is_itself_at_fault(site, options):
    check(site, "one", "raise OSError('no device')")
    check(site, "two", "return ['no']")
    check(site, "wrap", "answer = yield\nreturn answer", options)
    plugins = load_plugins(clean_environ())
    assert collect(plugins) == {"two": ["no"]}
    assert [failure.name for failure in plugins.failures] == ["one"]
    assert "wrap" in [plugin.name for plugin in plugins.loaded]


def test_a_wrapper_may_answer_for_a_plugin_that_fails(site):
    check(site, "one", "raise OSError('no device')")
    check(site, "wrap", "try:\n    return (yield)\nexcept OSError as error:\n    return [[str(error)]]", WRAPPER)
    plugins = load_plugins(clean_environ())
    assert collect(plugins) == {"one": ["no device"]} and plugins.failures == []


def test_a_wrapper_that_hangs_is_at_fault(site):
    check(site, "one", "return ['no']")
    check(site, "wrap", "import time\ntime.sleep(60)\nyield", WRAPPER)
    plugins = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="0.3"))
    assert collect(plugins) == {"one": ["no"]}
    assert [failure.name for failure in plugins.failures] == ["wrap"]


def test_a_wrapper_that_refuses_the_run_is_heard(site):
    check(site, "one", "return []")
    code = "from sendnn_pipeline.errors import ConfigError\n"
    body = "yield\nraise ConfigError('not on a Sunday')"
    install(site, "wrap", code + implement(CHECKS, body, options=WRAPPER))
    with pytest.raises(ConfigError, match="not on a Sunday"):
        collect()
