"""Plugins that fail in every way: the others load, the failure is named, and a run that needs it ends non-zero."""

import re

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError, PipelineError, PluginError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.hooks.manager import BUILTINS
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import EAGER_FLOAT32, ECHO, FLOAT32, sendnn

DTYPE = "model.dtype=float32"
STARTED = implement("stage_started(event)", "...")
FAILING = {
    "raises": ("raise OSError('no device')\n", "OSError: no device"),
    "misses": ("import a_library_that_is_not_here\n", "ModuleNotFoundError"),
    "exits": ("import sys; sys.exit(3)\n", "it called exit(3)"),
    "hangs": ("import time; time.sleep(60)\n", "more than 0.5 s"),
    "interrupts": ("raise KeyboardInterrupt\n", "it raised KeyboardInterrupt"),
    "misspelled": (
        implement("register_compile_backend(register)", "..."),
        "there is no hook register_compile_backend; did you mean register_compile_backends?",
    ),
    "mismatched": (implement("register_compile_backends(registry)", "..."), "PluginValidationError"),
    "broken": ("def (\n", "SyntaxError"),
    "unmarked": (
        "def register_compile_backends(register): ...\n",
        "its entry point bad_unmarked_module is a module that implements no hook; name the module whose functions are",
    ),
}


def loaded(plugins):
    return [plugin.name for plugin in plugins.loaded]


@pytest.mark.parametrize("kind", FAILING)
def test_a_plugin_that_fails_to_load_is_named_and_the_others_go_on(site, kind):
    code, reason = FAILING[kind]
    install(site, "bad", code, distribution=f"bad-{kind}")
    install(site, "good", STARTED)
    plugins = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="0.5"))
    (failure,) = plugins.failures
    assert failure.name == "bad" and reason in failure.reason and failure.distribution == f"bad-{kind} 1.0"
    assert failure.trace and loaded(plugins) == [*BUILTINS, "good"]


@pytest.mark.parametrize("text", ["-1", "0", "nan", "inf", "1e300", "soon"])
def test_a_time_limit_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS=.* must be a number of seconds"):
        load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS=text))


def test_a_plugin_that_closes_the_output_is_named_and_the_run_is_still_seen(site, tiny, with_echo):
    install(site, "shuts", "import sys\nsys.stdout.close()\nsys.stderr.close()\n")
    ended = sendnn(*ECHO, f"model.path={tiny}", "pipeline=precompile", **with_echo)
    assert ended.returncode == 0 and "is warm" in ended.stdout, ended.stderr
    assert "plugin shuts (shuts 1.0) is not loaded: RuntimeError: it closed stdout and stderr" in ended.stdout


def test_a_real_interrupt_is_no_plugin_s_fault(site):
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    install(site, "slow", code)
    with pytest.raises(KeyboardInterrupt):
        load_plugins(clean_environ())


SCHEMAS = {
    "no class": ("{'cores': 1}", "the schema of backend/acme is not a dataclass, but {'cores': 1}"),
    "a plain class": ("type('Acme', (), {})", "is not a dataclass"),
    "an instance": ("make_dataclass('Acme', [('a', int, 1)])()", "is not a dataclass"),
    "no defaults": ("make_dataclass('Acme', [('a', int)])", "TypeError"),
    "a type that is none": ("make_dataclass('Acme', [('a', 'nowhere.Type', 1)])", "NameError"),
    "another group's": (
        "make_dataclass('Acme', [('a', int, 1)], frozen=True)",
        "the schema of backend/acme is not a BackendConfig; write class Acme(BackendConfig)",
    ),
    "a type of no key": (
        "make_dataclass('Acme', [('a', complex, 1j)], bases=(BackendConfig,), frozen=True, kw_only=True)",
        "Unexpected type annotation: complex",
    ),
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_that_is_none_is_its_plugins_fault(site, kind):
    code, reason = SCHEMAS[kind]
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / "acme.yaml").write_text("defaults: [acme_schema, _self_]\nname: acme\n")
    body = implement("register_schemas(store)", f"store('backend', 'acme', {code})")
    paths = implement("config_paths()", "return HERE / 'conf'")
    imports = "from dataclasses import make_dataclass\nfrom sendnn_pipeline.config.schema import BackendConfig\n"
    install(site, "odd", imports + body + paths, distribution=f"odd-{len(kind)}")
    context = load_context(clean_environ())
    (warning,) = context.warnings
    assert warning.startswith("plugin odd") and "register_schemas failed" in warning and reason in warning
    assert context.compose([]).draft["backend.name"] == "inductor"
    with pytest.raises(ConfigError, match=r"unknown option backend=acme; .*plugin odd failed \(register_schemas"):
        context.compose(parse_overrides(["backend=acme"]))


def test_a_schema_of_no_group_is_its_plugins_fault(site):
    body = implement("register_schemas(store)", "store('backends', 'acme', make_dataclass('A', [('a', int, 1)]))")
    install(site, "odd", "from dataclasses import make_dataclass\n" + body, distribution="odd-group")
    (warning,) = load_context(clean_environ()).warnings
    assert "there is no group backends for a schema; did you mean backend?" in warning


@pytest.mark.parametrize("returned", ["None", "HERE / 'nowhere'", "3"])
def test_a_folder_of_options_that_is_none_is_its_plugins_fault(site, returned):
    install(site, "odd", implement("config_paths()", f"return {returned}"), distribution=f"odd-{len(returned)}")
    (warning,) = load_context(clean_environ()).warnings
    assert warning.startswith("plugin odd") and "config_paths failed" in warning and "is not a folder" in warning


CHECKS = {
    "raises": ("raise OSError('no card')", "check_config failed: OSError: no card"),
    "hangs": ("import time; time.sleep(60)", "check_config failed: TimeoutError: it took more than 1 s"),
    "gives a string": ("return 'too many'", "check_config failed: it returned 'too many' and not a list of problems"),
    "interrupts": ("raise KeyboardInterrupt", "check_config failed: RuntimeError: it raised KeyboardInterrupt"),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_check_that_fails_is_named_and_the_run_goes_on(site, tiny, with_echo, kind, whole_run):
    body, reason = CHECKS[kind]
    install(site, "checks", implement("check_config(run)", body), distribution=f"checks-{len(kind)}")
    words = (*ECHO, f"model.path={tiny}", "pipeline=precompile")
    ended = whole_run(*words, **with_echo, SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="1")
    assert ended.returncode == 0 and "is warm" in ended.stdout, ended.stdout + ended.stderr
    assert f"warning: plugin checks is called no more: {reason}" in ended.stdout


def test_a_metric_of_our_name_is_its_plugins_fault(site, tiny, with_echo, whole_run):
    body = "from prometheus_client import Gauge\nGauge('vllm:num_requests_running', 'Mine.', registry=registry)"
    install(site, "counts", implement("register_metrics(registry)", body))
    ended = whole_run(*ECHO, f"model.path={tiny}", "pipeline=precompile", **with_echo)
    assert ended.returncode == 0 and "is warm" in ended.stdout, ended.stdout + ended.stderr
    assert "warning: plugin counts is called no more: register_metrics failed: DuplicateTimeseries: " in ended.stdout


def test_an_entry_point_that_names_a_function_is_said(site, tiny, in_process):
    install(site, "acme", STARTED, entry="acme_module:stage_started")
    (failure,) = load_plugins(clean_environ()).failures
    assert failure.reason == (
        "its entry point acme_module:stage_started is a function that implements no hook; "
        "name the module whose functions are marked @hookimpl"
    )
    listed = in_process("plugins")
    assert listed.returncode == 1 and "a function" in listed.stdout


@pytest.mark.parametrize("body", ["raise OSError('late')", "import sys; sys.exit(1)", "import time; time.sleep(60)"])
def test_a_hook_that_fails_is_named_and_the_others_go_on(site, body):
    install(site, "late", implement("register_compile_backends(register)", body))
    plugins = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGIN_TIMEOUT_SECONDS="0.5"))
    registry = plugins.registry("register_compile_backends", "compile backend")
    assert registry.entries.keys() == {"eager", "inductor", "sendnn", "sendnn_compile_only"}
    assert [failure.name for failure in plugins.failures] == ["late"]
    assert "register_compile_backends failed" in plugins.failures[0].reason
    with pytest.raises(ConfigError, match="plugin late failed"):
        registry.create("lates", missing=plugins.missing())


@pytest.mark.parametrize("error", ["ValueError(event)", "ServeError(event)"])
def test_an_observer_that_fails_is_called_no_more(site, error):
    code = "from sendnn_pipeline.errors import ServeError\n"
    install(site, "watch", code + implement("stage_started(event)", f"raise {error}"))
    plugins = load_plugins(clean_environ())
    assert plugins.observe("stage_started", "builtin.server", event="begin", run=None) is None
    assert plugins.observe("stage_started", "watch", event="begin", run=None).name == "watch"
    assert len(plugins.failures) == 1 and "begin" in plugins.failures[0].reason
    assert plugins.names("stage_started") == [] and loaded(plugins) == list(BUILTINS)


def test_two_backends_of_one_name_name_both_plugins(site):
    code = implement("register_compile_backends(register)", "register('fast', object)")
    install(site, "one", code)
    install(site, "two", code)
    with pytest.raises(PluginError, match="compile backend fast is registered by one and two"):
        load_plugins(clean_environ()).registry("register_compile_backends", "compile backend")


def test_a_plugin_that_registers_one_name_twice_is_told_so(site):
    install(site, "one", implement("register_engines(register)", "register('a', object)\nregister('a', dict)"))
    with pytest.raises(PluginError, match="engine a is registered by one and one"):
        load_plugins(clean_environ()).registry("register_engines", "engine")


def test_two_plugins_of_one_name_are_both_refused(site):
    install(site, "same", "", distribution="first")
    install(site, "same", "", distribution="second")
    plugins = load_plugins(clean_environ())
    assert [failure.name for failure in plugins.failures] == ["same", "same"]
    assert "taken by first and second" in plugins.failures[0].reason


def test_allow_and_deny_keep_plugins_from_being_imported(site):
    install(site, "bomb", "raise SystemExit('imported')\n")
    install(site, "calm", STARTED)
    denied = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS_DENY="bomb"))
    allowed = load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS="calm"))
    for plugins in (denied, allowed):
        assert plugins.failures == [] and plugins.disabled == ["bomb"] and "calm" in loaded(plugins)
    with pytest.raises(ConfigError, match=r"SENDNN_PIPELINE_PLUGINS_DENY names plugin bom.* did you mean bomb"):
        load_plugins(clean_environ(SENDNN_PIPELINE_PLUGINS_DENY="bom"))


ACME = implement("config_paths()", "return HERE / 'acme_conf'")
ACME += "from dataclasses import dataclass\nfrom sendnn_pipeline.config.schema import BackendConfig\n"
ACME += (
    "@dataclass(frozen=True, kw_only=True)\nclass Acme(BackendConfig):\n    cores: int = 1\n    '''Cores of it.'''\n"
)
ACME += implement("register_schemas(store)", "store('backend', 'acme', Acme)")
ACME += "from sendnn_pipeline.backends.eager import EagerBackend\n"
ACME += implement("register_compile_backends(register)", "register('acme', EagerBackend)")
ROW = "ACME_CORES: {{key: backend.cores, {}default: '1', doc: Cores of the card.}}\n"


@pytest.fixture
def acme(site):
    """Install a backend with an option, a type and a variable."""
    conf = site / "acme_conf"
    (conf / "backend").mkdir(parents=True)
    (conf / "env").mkdir()
    (conf / "backend" / "acme.yaml").write_text("defaults: [acme_schema, _self_]\nname: acme\ncores: 4\n")
    (conf / "env" / "acme.yaml").write_text(ROW.format(""))
    install(site, "acme", ACME)
    return site


def test_a_plugin_adds_options_types_variables_and_a_backend(acme, in_process):
    ended = in_process("explain", "backend.cores", "backend=acme", DTYPE)
    assert ended.stdout.startswith("backend.cores = 4\n  backend=acme: Cores of it.\n"), ended.stderr
    assert f"from {acme}/acme_conf/backend/acme.yaml (backend=acme) (command line)" in ended.stdout
    over = in_process("explain", "backend.cores", DTYPE, ACME_CORES="8", SENDNN_PIPELINE__backend="acme")
    assert over.stdout.startswith("backend.cores = 8\n") and "\n  from ACME_CORES (env)" in over.stdout, over.stderr
    beaten = in_process("explain", "backend.cores", DTYPE, "backend=acme", ACME_CORES="8")
    assert beaten.stdout.startswith("backend.cores = 4\n"), "named on the command line, it sets every key of its file"
    wrong = in_process("explain", "backend", "backend=acme", "backend.coers=8")
    assert wrong.returncode == 2 and "unknown key backend.coers; did you mean backend.cores?" in wrong.stderr
    elsewhere = in_process("explain", "backend", "backend=eager", "backend.cores=8")
    assert elsewhere.returncode == 2 and "unknown key backend.cores; only backend=acme has it" in elsewhere.stderr
    shown = in_process("--help")
    assert "backend: acme, auto, eager, inductor, sendnn, sendnn_compile_only\n" in shown.stdout
    assert "_schema" not in shown.stdout
    assert "  backend.cores=1\n      backend=acme: Cores of it.\n" in shown.stdout


def test_a_variable_of_another_option_is_ignored_with_a_note(acme, in_process):
    """An image sets it for one option, and a run chooses another."""
    draft = load_context(clean_environ(ACME_CORES="2")).compose(parse_overrides(["backend=eager"])).draft
    assert draft.notices == ["ACME_CORES is ignored: it sets backend.cores, and only backend=acme has it"]
    assert "cores" not in draft.values["backend"] and "backend.cores" not in draft.origins
    refused = in_process("explain", "backend", "backend=eager", "backend.cores=2", ACME_CORES="2")
    assert refused.returncode == 2 and "unknown key backend.cores" in refused.stderr


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            "ACME_CORES: {key: backend.cores, default: '1'}\n",
            "missing required field `doc`; a row has key, default and doc",
        ),
        ("ACME_CORES: backend.cores\n", "row ACME_CORES of"),
        ("- ACME_CORES\n", "has no rows; a file of env/ is YAML: VARIABLE: {key: group.key"),
        ("ACME_CORES {\n  key: 1\n", "cannot be read as YAML: mapping values are not allowed"),
    ],
)
def test_rows_that_cannot_be_read_are_their_plugins_fault(acme, rows, reason, in_process):
    file = acme / "acme_conf" / "env" / "acme.yaml"
    file.write_text(rows)
    context = load_context(clean_environ())
    (warning,) = context.warnings
    assert warning.startswith("plugin acme (acme 1.0) is not loaded: ") and reason in warning and str(file) in warning
    assert context.compose([]).draft["backend.name"] == "inductor"
    with pytest.raises(ConfigError, match=r"unknown option backend=acme; .*plugin acme failed"):
        context.compose(parse_overrides(["backend=acme"]))
    assert in_process("plugins").returncode == 1


def test_a_row_of_no_key_is_said_before_anybody_sets_it(acme):
    (acme / "acme_conf" / "env" / "acme.yaml").write_text("ACME_CORES: {key: backend.coers, default: 1, doc: Cores.}\n")
    context = load_context(clean_environ())
    assert context.warnings == ("row ACME_CORES names the unknown key backend.coers; did you mean backend.cores?",)


def test_a_row_s_default_is_text_as_a_variable_has_it(acme):
    entries = ("ACME_A: {{key: backend.cores, default: {}, doc: Cores.}}\n").format
    for default, text in (("4", "4"), ("true", "true"), ("0.5", "0.5"), ("null", ""), ("'08'", "08")):
        (acme / "acme_conf" / "env" / "acme.yaml").write_text(entries(default))
        assert load_context(clean_environ()).rows["ACME_A"].default == text


def test_an_option_that_names_no_backend_is_told_the_line_that_it_lacks(acme):
    file = acme / "acme_conf" / "backend" / "acme.yaml"
    file.write_text("defaults: [acme_schema, _self_]\n")
    line = rf"backend=acme does not set backend.name, and would run auto \(set by {file}\); add the line 'name: acme'"
    with pytest.raises(ConfigError, match=line):
        compose_run(load_context(clean_environ()), parse_overrides(["backend=acme"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: acme\n", "backend=acme has keys of its own"),
        ("name: acme\ncores: 4\n", "backend=acme has keys of its own"),
        ("defaults: [_self_, acme_schema]\nname: acme\ncores: 4\n", "backend=acme has keys of its own"),
        ("defaults: [inductor, _self_]\nname: acme\n", "backend=acme has keys of its own"),
    ],
)
def test_an_option_without_its_schema_is_told_the_line_that_it_lacks(acme, text, says):
    file = acme / "acme_conf" / "backend" / "acme.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose_run(load_context(clean_environ()), parse_overrides(["backend=acme", DTYPE]))
    wanted = f"{file} does not begin with the schema of its keys: {says}; "
    assert str(caught.value) == f"{wanted}begin it with 'defaults: [acme_schema, _self_]'"


def test_an_option_of_a_user_s_own_begins_with_a_schema_or_another_option(acme, tmp_path):
    conf = tmp_path / "mine"
    (conf / "backend").mkdir(parents=True)

    def mine(text):
        (conf / "backend" / "mine.yaml").write_text(text)
        return compose_run(load_context(clean_environ(), str(conf)), parse_overrides(["backend=mine", DTYPE])).draft

    assert mine("defaults: [acme, _self_]\ncores: 2\n")["backend.cores"] == 2
    assert mine("defaults: [acme_schema, _self_]\nname: acme\n")["backend.cores"] == 1
    begin = r"begin it with 'defaults: \[acme_schema, _self_\]'"
    with pytest.raises(ConfigError, match=f"mine.yaml .*: backend.cores is a key of backend=acme; {begin}"):
        mine("name: acme\ncores: 2\n")
    with pytest.raises(ConfigError, match=r"backend.name=acme has keys of its own, .* of backend=mine .*mine.yaml"):
        mine("name: acme\n")
    with pytest.raises(ConfigError, match=r"backend=mine does not set backend.name, .*; add the line 'name: inductor'"):
        mine("simple: eager\n")
    # With nobody's options the backend would be made of another's.
    with pytest.raises(ConfigError, match=r"serve.target=batch has keys of its own, .* of serve=http .*serve=batch"):
        compose_run(load_context(clean_environ()), parse_overrides([DTYPE, "serve.target=batch"]))


def test_a_defaults_list_that_names_no_schema_is_located(acme):
    file = acme / "acme_conf" / "backend" / "acme.yaml"
    file.write_text("defaults: [acne_schema, _self_]\nname: acme\n")
    line = rf"{file} has acne_schema in its defaults list, and backend has no such option; a plugin's register_schemas"
    with pytest.raises(ConfigError, match=line):
        compose_run(load_context(clean_environ()), parse_overrides(["backend=acme"]))


FAILS = "ends = True\n    def prepare(self, run, endpoints): raise OSError('no room')"
TARGETS = {
    "without target": ("", "", "serve=acme does not set serve.target, .* run http .*add the line 'target: acme'"),
    "that fails": ("target: acme\n", FAILS, r"serve target acme of plugin acme failed: OSError: no room \(acme"),
    "without parts": ("target: acme\n", "", "serve target acme of plugin acme lacks ends, prepare; see ServeTarget"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_what_is_wrong_with_a_target_is_one_line(site, tiny, in_process, kind):
    option, parts, line = TARGETS[kind]
    (site / "conf" / "serve").mkdir(parents=True)
    (site / "conf" / "serve" / "acme.yaml").write_text("# Acme.\nport: 0\n" + option)
    code = f"class Target:\n    def run(self, session): ...\n    {parts}\n"
    code += implement("config_paths()", "return HERE / 'conf'")
    install(site, "acme", code + implement("register_serve_targets(register)", "register('acme', Target)"))
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "serve=acme")
    assert ended.returncode in (1, 2) and re.search(line, ended.stderr), ended.stderr


def test_a_row_of_the_release_before_is_read_with_a_note(acme):
    file = acme / "acme_conf" / "env" / "acme.yaml"
    file.write_text(ROW.format("decoder: int, "))
    context = load_context(clean_environ(ACME_CORES="3"))
    assert context.warnings == (f"{file}: ACME_CORES has a decoder, which the type of backend.cores decides now",)
    assert [value.value for value in context.env] == [3]


def test_a_plugin_for_older_hooks_takes_fewer_arguments(site, tiny, with_echo, whole_run):
    code = "NOTES = HERE / 'notes'\n" + implement("check_config()", "return []")
    code += implement("stage_finished()", "with NOTES.open('a') as file:\n    file.write('finished ')")
    code += implement("register_metrics()", "with NOTES.open('a') as file:\n    file.write('metrics ')")
    install(site, "older", code)
    ended = whole_run(*ECHO, f"model.path={tiny}", "pipeline=precompile", **with_echo)
    assert ended.returncode == 0 and "not loaded" not in ended.stdout, ended.stdout + ended.stderr
    first, *others = (site / "notes").read_text().split()
    assert first == "metrics" and len(others) >= 6 and set(others) == {"finished"}, ended.stdout + ended.stderr


def test_a_denied_plugin_is_not_imported_by_a_run_either(site, tiny, with_echo, whole_run):
    install(site, "bomb", "raise SystemExit('imported')\n")
    denied = {**with_echo, "SENDNN_PIPELINE_PLUGINS_DENY": "bomb"}
    ended = whole_run(*ECHO, f"model.path={tiny}", "pipeline=precompile", **denied)
    assert ended.returncode == 0 and "imported" not in ended.stdout + ended.stderr
    listed = whole_run("plugins", COLUMNS="200", **denied)
    assert listed.returncode == 0 and "disabled" in listed.stdout
    asked = whole_run("backend=bomb", **denied)
    assert asked.returncode == 2 and "unknown option backend=bomb" in asked.stderr


def test_what_is_no_configuration_is_named(site):
    code = "class Numbers:\n    def configs(self): return [1]\n"
    install(site, "lists", code + implement("register_config_registries(register)", "register('lists', Numbers)"))
    (problem,) = collect_known(load_context(clean_environ()), None, "").problems
    reason = "config registry lists of plugin lists failed: TypeError: 1 is not a KnownConfiguration"
    assert (problem.plugin, problem.message) == ("lists", reason)


def test_a_registry_of_configurations_that_fails_is_named_and_the_run_goes_on(site, tiny, with_echo, whole_run):
    code = "class Broken:\n    def configs(self): raise OSError('no list')\n"
    code += implement("register_config_registries(register)", "register('lists', Broken)")
    install(site, "lists", code)
    words = (*ECHO, f"model.path={tiny}", "pipeline=precompile")
    ended = whole_run(*words, **with_echo)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "note: config registry lists of plugin lists failed: OSError: no list" in ended.stdout
    required = whole_run(*words, "known.require=true", **with_echo)
    assert required.returncode == 1 and "config registry lists of plugin lists failed" in required.stderr


def test_a_plugin_s_problems_with_a_run_stop_it(site, tiny, in_process):
    install(site, "strict", implement("check_config(run)", "return ['serve.port: not on a Sunday']"))
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}")
    assert ended.returncode == 2 and "error: serve.port: not on a Sunday" in ended.stderr


@pytest.mark.parametrize("answer", ["'not a list'", "3", "{'a': 1}"])
def test_an_answer_of_another_kind_is_a_failure_of_the_plugin(site, tiny, answer):
    install(site, "odd", implement("check_config(run)", f"return {answer}"))
    install(site, "odd-folder", implement("config_paths()", f"return {answer}"))
    context = load_context(clean_environ())
    assert [failure.name for failure in context.plugins.failures] == ["odd-folder"]
    assert "config_paths failed" in context.warnings[0] and "is not a folder" in context.warnings[0]
    composed = compose_run(context, parse_overrides([*EAGER_FLOAT32, f"model.path={tiny}"]))
    assert resolve_run(context, composed, tiny).run.config.backend.name == "eager"
    assert "and not a list of problems" in context.plugins.failures[1].reason


def test_a_backend_that_is_none_is_refused(site, tiny, in_process):
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / "hollow.yaml").write_text("name: hollow\nsimple: eager\n")
    code = implement("config_paths()", "return HERE / 'conf'") + "class Hollow:\n    def __init__(self, options): ...\n"
    code += implement("register_compile_backends(register)", "register('hollow', Hollow)")
    install(site, "hollow", code)
    ended = in_process(*FLOAT32, f"model.path={tiny}", "backend=hollow")
    assert ended.returncode == 1 and "compile backend hollow of plugin hollow lacks compile" in ended.stderr


def test_a_run_that_names_what_a_failed_plugin_was_to_provide_ends_non_zero(site, in_process):
    install(site, "acme", "raise OSError('no card')\n")
    ended = in_process("backend=acme")
    assert ended.returncode == 2
    assert "plugin acme (acme 1.0) is not loaded: OSError: no card" in ended.stdout
    assert "unknown option backend=acme" in ended.stderr


def test_the_list_of_plugins(site, in_process):
    install(site, "acme", "raise OSError('no card')\n")
    install(site, "good", STARTED)
    install(site, "late", implement("register_engines(register)", "raise OSError('no engine')"))
    ended = in_process("plugins", "-v", COLUMNS="200")
    assert ended.returncode == 1 and "Traceback" in ended.stdout
    assert "OSError: no card" in ended.stdout and "stage_started" in ended.stdout
    assert "register_engines failed: OSError: no engine" in ended.stdout


def test_a_plugin_that_shadows_our_option_is_refused(site):
    (site / "conf" / "backend").mkdir(parents=True)
    (site / "conf" / "backend" / "eager.yaml").write_text("name: eager\n")
    install(site, "shadow", implement("config_paths()", "return HERE / 'conf'"))
    with pytest.raises(PipelineError, match=r"backend=eager is defined by .*conf/backend/eager.yaml and .*eager.yaml"):
        assert load_context(clean_environ()).tree.groups
