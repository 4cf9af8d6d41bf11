"""Engines and what can be asked of them come through hooks: names and paths have one owner, claims are decided."""

import pytest

from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.engines.create import choose_engine, create_engine
from sendnn_pipeline.errors import ConfigError, PluginError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.models.facts import read_model_facts
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import EAGER_FLOAT32, ECHO, sendnn

ENGINE = "from echo_engine import EchoEngine\nclass Mine(EchoEngine):\n    name = 'mine'\n"


def plugins():
    return load_plugins(clean_environ())


def registering(*names):
    return implement("register_engines(register)", "\n".join(f"register({name!r}, Mine)" for name in names))


def test_two_engines_of_one_name_name_both_plugins(site, with_echo, tiny, in_process):
    install(site, "one", ENGINE.replace("'mine'", "'echo'") + registering("echo"))
    ended = in_process(*ECHO, f"model.path={tiny}", **with_echo)
    assert ended.returncode == 1 and ended.stderr.splitlines() == [
        "error: engine echo is registered by echo and one; keep one out with SENDNN_PIPELINE_PLUGINS_DENY"
    ]
    denied = plugins()
    with pytest.raises(PluginError, match="engine echo is registered by echo and one"):
        create_engine(denied, "echo")
    alone = create_engine(load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS_DENY="echo")), "echo")
    assert alone.what == "engine echo of plugin one"


def endpoint(engine, path):
    return implement(
        "register_endpoints(register)", f"from echo_engine import ECHO\nregister({engine!r}, {path!r}, ECHO)"
    )


def test_two_endpoints_of_one_path_name_both_plugins(site, with_echo, tiny, in_process):
    install(site, "more", endpoint("echo", "/v1/echo"))
    with pytest.raises(PluginError) as caught:
        collect_endpoints(plugins(), "echo")
    assert str(caught.value).startswith("path /v1/echo of engine echo is registered by echo and more; keep one out")
    ended = in_process(*ECHO, f"model.path={tiny}", "serve.port=0", **with_echo)
    assert ended.returncode == 1 and "path /v1/echo of engine echo is registered by echo and more" in ended.stderr
    assert "load" not in ended.stdout


def test_what_is_no_endpoint_is_named(site, with_echo):
    install(site, "more", implement("register_endpoints(register)", "register('echo', '/v2/echo', 3)"))
    with pytest.raises(PluginError, match="path /v2/echo of engine echo by more is no endpoint: 3; see Endpoint in"):
        collect_endpoints(plugins(), "echo")


def test_one_path_of_two_engines_is_no_conflict(site, with_echo):
    install(site, "more", endpoint("pooling", "/v1/echo"))
    assert collect_endpoints(plugins(), "echo").keys() == {"/v1/echo"}
    assert "/v1/echo" in collect_endpoints(plugins(), "pooling")


def test_a_plugin_may_add_a_path_to_another_s_engine(site, with_echo):
    install(site, "more", endpoint("echo", "/v2/echo"))
    assert list(collect_endpoints(plugins(), "echo")) == ["/v1/echo", "/v2/echo"]


CLAIM = "    def claim(self, facts): return f'{facts.architecture} is mine'\n"


def test_an_engine_that_claims_a_model_beside_another_must_be_chosen(site, with_echo, tiny, in_process):
    install(site, "one", ENGINE + CLAIM + registering("mine"))
    with pytest.raises(ConfigError, match=r"BertModel is claimed by the engines mine and pooling; choose one: engine="):
        choose_engine(plugins(), read_model_facts(tiny))
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", **with_echo)
    assert ended.returncode == 2 and "choose one: engine=mine or engine=pooling" in ended.stderr


def test_the_only_claim_decides_and_says_why(site, with_echo, tiny):
    assert choose_engine(plugins(), read_model_facts(tiny)) == ("pooling", "BertModel gives embeddings")


BROKEN = {
    "its factory": (
        "    def __init__(self): raise OSError('no card')\n",
        "engine mine of plugin one failed: OSError: no",
    ),
    "claim": ("    def claim(self, facts): raise OSError('no card')\n", "engine mine of plugin one failed: OSError"),
}


@pytest.mark.parametrize("part", BROKEN)
def test_an_engine_that_fails_is_dropped_from_runs_that_did_not_choose_it(site, with_echo, tiny, part):
    code, reason = BROKEN[part]
    install(site, "one", ENGINE + code + registering("mine"))
    found = plugins()
    assert choose_engine(found, read_model_facts(tiny)) == ("pooling", "BertModel gives embeddings")
    (failure,) = found.failures
    assert failure.name == "one" and failure.reason.startswith(reason)


def test_a_claim_is_a_reason_or_none(site, with_echo, tiny):
    install(site, "one", ENGINE + "    def claim(self, facts): return True\n" + registering("mine"))
    found = plugins()
    assert choose_engine(found, read_model_facts(tiny))[0] == "pooling"
    reason = "engine mine of plugin one returned True from claim, which returns a reason as text, or None"
    assert found.failures[-1].reason == reason


TYPES = {
    "body='Nope'": "body of path /v2/echo of engine echo by more failed: ",
    "answer=object()": "answer of path /v2/echo of engine echo by more failed: TypeError: Type ",
    "errors=(3,)": "errors of path /v2/echo of engine echo by more failed: ",
}


@pytest.mark.parametrize("part", TYPES)
def test_a_type_that_nothing_can_be_read_by_is_named(site, with_echo, part):
    code = implement("register_endpoints(register)", f"register('echo', '/v2/echo', replace(ECHO, {part}))")
    install(site, "more", "from dataclasses import replace\nfrom echo_engine import ECHO\n" + code)
    with pytest.raises(PluginError) as caught:
        collect_endpoints(plugins(), "echo")
    assert str(caught.value).startswith(TYPES[part]), caught.value


def test_a_path_of_the_server_s_own_is_refused_before_anything_is_loaded(site, with_echo, tiny):
    install(site, "more", endpoint("echo", "/tokenize"))
    ended = sendnn(*ECHO, f"model.path={tiny}", "serve.port=0", **with_echo)
    line = "error: path /tokenize, which a plugin registers, is the server's own; register another path; "
    assert ended.returncode == 1 and ended.stderr.startswith(line), ended.stderr
    assert "load done" not in ended.stdout


@pytest.mark.parametrize("path", ["v2/echo", "", 3])
def test_a_path_without_a_slash_is_named(site, with_echo, path):
    install(site, "more", endpoint("echo", path))
    with pytest.raises(PluginError, match="by more is no path; a path begins with a slash"):
        collect_endpoints(plugins(), "echo")


def test_an_engine_that_is_chosen_and_cannot_be_made_is_named(site, with_echo):
    install(site, "one", ENGINE + BROKEN["its factory"][0] + registering("mine"))
    with pytest.raises(PluginError, match=r"engine mine of plugin one failed: OSError: no card \(one_module.py:7\)"):
        create_engine(plugins(), "mine")


NONSENSE = {
    "resolve(self, draft, limits): raise KeyError('x')": "failed: KeyError: 'x' (one_module.py:7)",
    "resolve(self, draft, limits): raise SystemExit(3)": "failed: it called exit(3) (one_module.py:7)",
    "plan(self, config, model, limits): return 1 / 0": "failed: ZeroDivisionError: division by zero (one_module.py:7)",
    "plan(self, config, model, limits): return 3": "returned 3 from plan, which returns a Plan of engines/plan.py",
    "open(self, run, world): raise OSError('no card')": "failed: OSError: no card (one_module.py:7)",
    "use_plugins(self, plugins): raise OSError('no card')": "failed: OSError: no card (one_module.py:7)",
}


@pytest.mark.parametrize("method", NONSENSE)
def test_whatever_a_chosen_engine_raises_or_gives_names_its_plugin(site, with_echo, tiny, in_process, method):
    schema = implement("register_schemas(store)", "store('engine', 'mine', EchoConfig)")
    code = "from echo_engine import EchoConfig\n" + schema
    install(site, "one", ENGINE + f"    def {method}\n" + registering("mine") + code)
    words = (*EAGER_FLOAT32, f"model.path={tiny}", "engine.name=mine", "pipeline=precompile")
    ended = in_process(*words, **with_echo)
    line = f"engine mine of plugin one {NONSENSE[method]}"
    assert ended.returncode == 1 and line in ended.stderr.splitlines()[-1], ended.stderr


@pytest.mark.parametrize(
    ("part", "line"),
    [("keys = None", "has None for its keys; "), ("name = 'other'", "is called 'other'; call it 'mine', as it is")],
)
def test_an_engine_with_a_wrong_part_is_named(site, with_echo, part, line):
    install(site, "one", ENGINE + f"    {part}\n" + registering("mine"))
    with pytest.raises(PluginError, match=f"^engine mine of plugin one {line}"):
        create_engine(plugins(), "mine")


def test_what_an_engine_opens_has_all_its_parts(site, with_echo):
    install(site, "one", ENGINE + "    def open(self, run, world): return object()\n" + registering("mine"))
    with pytest.raises(PluginError, match=r"^what engine mine of plugin one opens lacks about, close, graph, .*; see"):
        create_engine(plugins(), "mine").open(None, None)


def test_an_engine_needs_no_keys_of_its_own(site, with_echo, tiny, whole_run):
    code = "from sendnn_pipeline.engines.plan import Plan, Step\n"
    code += "from echo_engine import PROGRAM, EchoConfig, EchoCore\n"
    code += ENGINE + "    def plan(self, config, model, limits):\n"
    code += "        return Plan(steps={PROGRAM: (Step((1,), 1),)}, max_input_tokens=64, unit='texts')\n"
    code += "    def open(self, run, world):\n        assert type(run.config.engine).__name__ == 'EngineConfig'\n"
    code += "        return EchoCore(EchoConfig(name='mine'))\n"
    install(site, "one", code + registering("mine"))
    ended = whole_run(*ECHO[:-1], f"model.path={tiny}", "engine.name=mine", "pipeline=precompile", **with_echo)
    assert ended.returncode == 0 and "is warm after" in ended.stdout, ended.stderr


def test_what_is_not_an_engine_is_told_what_it_lacks(site):
    install(site, "one", "class Mine:\n    name, keys = 'mine', ()\n" + registering("mine"))
    with pytest.raises(PluginError, match=r"engine mine of plugin one lacks claim, open, plan, resolve; see Engine in"):
        create_engine(plugins(), "mine")
    with pytest.raises(ConfigError, match=r"no plugin provides engine mime .*did you mean mine\?"):
        create_engine(plugins(), "mime", where="engine.name=mime")
