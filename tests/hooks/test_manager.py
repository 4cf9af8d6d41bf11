"""Plugins that fail in every way: the others load, the failure is named, and a run that needs it ends non-zero."""

import pytest

from sendnn_pipeline.errors import ConfigError, PipelineError, PluginError
from sendnn_pipeline.hooks.host import open_host
from sendnn_pipeline.hooks.manager import load_plugins
from sendnn_pipeline.hooks.specs import HOOKS
from tests.conftest import clean_environ
from tests.hooks.fake import install
from tests.served import sendnn

HEAD = "from sendnn_pipeline.hooks import hookimpl\n"
FAILING = {
    "raises": ("raise OSError('no device')\n", "OSError: no device"),
    "misses": ("import a_library_that_is_not_here\n", "ModuleNotFoundError"),
    "exits": ("import sys; sys.exit(3)\n", "it called exit(3)"),
    "hangs": ("import time; time.sleep(60)\n", "more than 0.5 s"),
    "misspelled": (
        HEAD + "@hookimpl\ndef register_compile_backend(register): ...\n",
        "there is no hook register_compile_backend; did you mean register_compile_backends?",
    ),
    "mismatched": (HEAD + "@hookimpl\ndef register_compile_backends(registry): ...\n", "PluginValidationError"),
    "broken": ("def (\n", "SyntaxError"),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", FAILING)
def test_a_plugin_that_fails_to_load_is_named_and_the_others_go_on(site, kind):
    code, reason = FAILING[kind]
    install(site, "bad", code, distribution=f"bad-{kind}")
    install(site, "good", HEAD + "@hookimpl\ndef stage_started(event): ...\n", distribution=f"good-{kind}")
    plugins = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="0.5"))
    (failure,) = plugins.failures
    assert failure.name == "bad" and reason in failure.reason and failure.distribution == f"bad-{kind} 1.0"
    assert failure.trace and "good" in [plugin.name for plugin in plugins.loaded]


@pytest.mark.parametrize("body", ["raise OSError('late')", "import sys; sys.exit(1)", "import time; time.sleep(60)"])
def test_a_hook_that_fails_is_named_and_the_others_go_on(site, body):
    install(site, "late", HEAD + f"@hookimpl\ndef register_compile_backends(register):\n    {body}\n")
    plugins = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="0.5"))
    registry = plugins.registry("register_compile_backends", "compile backend")
    assert {"eager", "inductor", "sendnn"} == registry.entries.keys()
    assert [failure.name for failure in plugins.failures] == ["late"]
    assert "register_compile_backends failed" in plugins.failures[0].reason
    with pytest.raises(ConfigError, match="plugin late failed"):
        registry.create("lates", missing=plugins.missing())


def test_an_observer_that_fails_is_called_no_more(site):
    install(site, "watch", HEAD + "@hookimpl\ndef stage_started(event): raise ValueError(event)\n")
    plugins = load_plugins(clean_environ())
    plugins.observe("stage_started", event="begin")
    plugins.observe("stage_started", event="again")
    assert len(plugins.failures) == 1 and "begin" in plugins.failures[0].reason


def test_two_backends_of_one_name_name_both_plugins(site):
    code = HEAD + "@hookimpl\ndef register_compile_backends(register): register('fast', object)\n"
    install(site, "one", code)
    install(site, "two", code)
    with pytest.raises(PluginError, match="fast is claimed by one and two"):
        load_plugins(clean_environ()).registry("register_compile_backends", "compile backend")


def test_two_plugins_of_one_name_are_both_refused(site):
    install(site, "same", HEAD, distribution="first")
    install(site, "same", HEAD, distribution="second")
    plugins = load_plugins(clean_environ())
    assert [failure.name for failure in plugins.failures] == ["same", "same"]
    assert "taken by first and second" in plugins.failures[0].reason


def test_allow_and_deny_keep_plugins_from_being_imported(site):
    install(site, "bomb", "raise SystemExit('imported')\n")
    install(site, "calm", HEAD)
    denied = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS_DENY="bomb"))
    allowed = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS="calm"))
    for plugins in (denied, allowed):
        assert plugins.failures == [] and plugins.disabled == ["bomb"]
        assert "calm" in [plugin.name for plugin in plugins.loaded]
    with pytest.raises(ConfigError, match=r"SENDNN_PIPELINE_PLUGINS_DENY names plugin bom.* did you mean bomb"):
        load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS_DENY="bom"))


def test_a_plugin_adds_options_types_variables_and_a_backend(site):
    conf = site / "acme_conf"
    (conf / "backend").mkdir(parents=True)
    (conf / "env").mkdir()
    (conf / "backend" / "acme.yaml").write_text("defaults: [acme_schema, _self_]\nname: acme\ncores: 4\n")
    row = "ACME_CORES: {key: backend.cores, decoder: int, default: '1', doc: Cores of the card.}\n"
    (conf / "env" / "acme.yaml").write_text(row)
    install(
        site,
        "acme",
        HEAD
        + "from dataclasses import dataclass\nfrom pathlib import Path\n"
        + "from sendnn_pipeline.config.schema import BackendConfig\n"
        + "@dataclass(frozen=True, kw_only=True)\nclass Acme(BackendConfig):\n    cores: int = 1\n"
        + "@hookimpl\ndef config_paths(): return Path(__file__).parent / 'acme_conf'\n"
        + "@hookimpl\ndef register_schemas(store): store('backend', 'acme', Acme)\n"
        + "from sendnn_pipeline.backends.eager import EagerBackend\n"
        + "@hookimpl\ndef register_compile_backends(register): register('acme', EagerBackend)\n",
    )
    ended = sendnn("explain", "backend.cores", "backend=acme")
    assert "backend.cores = 4" in ended.stdout and "acme.yaml (backend=acme)" in ended.stdout
    over = sendnn("explain", "backend.cores", ACME_CORES="8", SENDNN_PIPELINE__backend="acme")
    assert "backend.cores = 8\n  from ACME_CORES" in over.stdout, over.stderr
    wrong = sendnn("explain", "backend", "backend=acme", "backend.coers=8")
    assert wrong.returncode == 2 and "backend.coers is no key" in wrong.stderr
    shown = sendnn("--help")
    assert "backend: acme, auto, eager, inductor, sendnn\n" in shown.stdout and "_schema" not in shown.stdout
    elsewhere = sendnn("explain", "backend", "backend=eager", "backend.cores=8")
    assert elsewhere.returncode == 2 and "backend.cores is no key" in elsewhere.stderr


def test_a_plugin_for_older_hooks_takes_fewer_arguments(site, tiny):
    code = "from pathlib import Path\nSAID = Path(__file__).with_name('said')\n"
    code += "@hookimpl\ndef check_config(): return []\n"
    code += "@hookimpl\ndef stage_finished(): SAID.open('a').write('finished ')\n"
    code += "@hookimpl\ndef register_metrics(): SAID.open('a').write('metrics ')\n"
    install(site, "older", HEAD + code)
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]", "pipeline=precompile")
    ended = sendnn(*words)
    assert ended.returncode == 0 and "not loaded" not in ended.stdout, ended.stdout + ended.stderr
    said = (site / "said").read_text().split()
    assert said[0] == "metrics" and said.count("finished") >= 3


def test_a_denied_plugin_is_not_imported_by_a_run_either(site, tiny):
    install(site, "bomb", "raise SystemExit('imported')\n")
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]", "pipeline=precompile")
    ended = sendnn(*words, SENDNN_PIPELINE_PLUGINS_DENY="bomb")
    assert ended.returncode == 0 and "imported" not in ended.stdout + ended.stderr
    listed = sendnn("plugins", SENDNN_PIPELINE_PLUGINS_DENY="bomb", COLUMNS="200")
    assert listed.returncode == 0 and "kept out" in listed.stdout
    asked = sendnn("backend=bomb", SENDNN_PIPELINE_PLUGINS_DENY="bomb")
    assert asked.returncode == 2 and "backend=bomb is no option" in asked.stderr


def test_a_registry_of_configurations_that_fails_is_said_and_the_run_goes_on(site, tiny):
    code = "class Broken:\n    def configs(self): raise OSError('no list')\n"
    code += "@hookimpl\ndef register_config_registries(register): register('lists', Broken)\n"
    install(site, "lists", HEAD + code)
    words = ("model=local", f"model.path={tiny}", "backend=eager", "warmup.shapes=[16x1]", "pipeline=precompile")
    ended = sendnn(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "note: config registry lists of plugin lists failed: OSError: no list" in ended.stdout
    required = sendnn(*words, "known.require=true")
    assert required.returncode == 1 and "config registry lists of plugin lists failed" in required.stderr


def test_a_variable_of_another_option_names_itself(site):
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "env").mkdir()
    (site / "conf" / "backend" / "acme.yaml").write_text("defaults: [acme_schema, _self_]\nname: acme\n")
    row = "ACME_CORES: {key: backend.cores, decoder: int, default: '1', doc: Cores of the card.}\n"
    (site / "conf" / "env" / "acme.yaml").write_text(row)
    code = "from dataclasses import dataclass\nfrom pathlib import Path\n"
    code += "from sendnn_pipeline.config.schema import BackendConfig\n"
    code += "@dataclass(frozen=True, kw_only=True)\nclass Acme(BackendConfig):\n    cores: int = 1\n"
    code += "@hookimpl\ndef config_paths(): return Path(__file__).parent / 'conf'\n"
    code += "@hookimpl\ndef register_schemas(store): store('backend', 'acme', Acme)\n"
    install(site, "acme", HEAD + code)
    ended = sendnn("explain", "backend", "backend=eager", ACME_CORES="2")
    assert ended.returncode == 2
    assert "ACME_CORES sets backend.cores, which the chosen options do not have" in ended.stderr


def test_a_plugin_s_problems_with_a_run_stop_it(site, tiny):
    install(site, "strict", HEAD + "@hookimpl\ndef check_config(run): return ['serve.port: not on a Sunday']\n")
    ended = sendnn("model=local", f"model.path={tiny}", "backend=eager")
    assert ended.returncode == 2 and "error: serve.port: not on a Sunday" in ended.stderr


def test_a_backend_that_is_none_is_refused(site, tiny):
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / "hollow.yaml").write_text("name: hollow\nsimple: eager\n")
    code = "from pathlib import Path\n@hookimpl\ndef config_paths(): return Path(__file__).parent / 'conf'\n"
    code += "@hookimpl\ndef register_compile_backends(register): register('hollow', object)\n"
    install(site, "hollow", HEAD + code)
    ended = sendnn("model=local", f"model.path={tiny}", "backend=hollow")
    assert ended.returncode == 1 and "compile backend hollow of plugin hollow lacks compile" in ended.stderr


def test_a_run_that_names_what_a_failed_plugin_was_to_provide_ends_non_zero(site):
    install(site, "acme", "raise OSError('no card')\n")
    ended = sendnn("backend=acme")
    assert ended.returncode == 2
    assert "plugin acme (acme 1.0) is not loaded: OSError: no card" in ended.stdout
    assert "backend=acme is no option" in ended.stderr


def test_the_list_of_plugins(site):
    install(site, "acme", "raise OSError('no card')\n")
    install(site, "good", HEAD + "@hookimpl\ndef stage_started(event): ...\n")
    ended = sendnn("plugins", "-v", COLUMNS="200")
    assert ended.returncode == 1 and "Traceback" in ended.stdout
    assert "OSError: no card" in ended.stdout and "stage_started" in ended.stdout


def test_a_plugin_that_shadows_our_option_is_refused(site):
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / "eager.yaml").write_text("name: eager\n")
    code = "from pathlib import Path\n@hookimpl\ndef config_paths(): return Path(__file__).parent / 'conf'\n"
    install(site, "shadow", HEAD + code)
    with pytest.raises(PipelineError, match=r"backend=eager is defined by .*conf/backend/eager.yaml and .*eager.yaml"):
        open_host(clean_environ())


def test_the_hooks():
    assert set(HOOKS) == {
        "config_paths",
        "register_schemas",
        "check_config",
        "register_compile_backends",
        "register_model_sources",
        "register_config_registries",
        "register_serve_targets",
        "stage_started",
        "stage_finished",
        "stage_failed",
        "register_metrics",
    }
