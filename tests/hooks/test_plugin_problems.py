"""What of a plugin nobody can use: listed by ``plugins``, said where a run names it, and no end of other runs."""

import json

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.known_sources import collect_known
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError, PluginError
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import EAGER_FLOAT32

KNOWN = {"name": "small", "match": {"model_type": "bert"}, "backends": ["eager"], "runtimes": [{"serve.port": 1}]}
CONF = implement("config_paths()", "return HERE / 'conf'")
EAGER = "from sendnn_pipeline.backends.eager import EagerBackend\n"


@pytest.fixture
def known(site):
    """Install a plugin of two known configurations, one of which is the text."""
    (site / "conf" / "known").mkdir(parents=True)
    (site / "conf" / "known" / "small.yaml").write_text(json.dumps(KNOWN))
    install(site, "lists", CONF)

    def known(text):
        (site / "conf" / "known" / "bad.yaml").write_bytes(text)
        return site / "conf" / "known" / "bad.yaml"

    return known


def resolved(tiny, *words):
    context = load_context(clean_environ())
    composed = compose_run(context, parse_overrides([*EAGER_FLOAT32, f"model.path={tiny}", *words]))
    return resolve_run(context, composed, tiny).draft


@pytest.mark.parametrize(
    "text", [b"backends: [eager\n", b"name: eager\n", b"\xff\xfeeager", b"[eager]\n", b"eager: 5\n"]
)
def test_a_bad_file_of_known_costs_nobody_a_run(known, tiny, in_process, text):
    file = known(text)
    line = f"a known configuration of plugin lists is left out: {file}"
    draft = resolved(tiny)
    assert draft["serve.port"] == 1, "the other one goes on"
    (note,) = [note for note in draft.notices if "plugin lists" in note]
    assert note.startswith(line)
    # It is not what is looked for.
    assert resolved(tiny, "known.require=true")["serve.port"] == 1
    with pytest.raises(PluginError, match="unknown known configuration bad; a known configuration of plugin lists"):
        resolved(tiny, "known=bad")
    listed = in_process("plugins")
    (row,) = [row for row in listed.stdout.splitlines() if line in row]
    assert listed.returncode == 1 and row.split()[:2] == ["lists", "problem"]


def test_one_of_the_user_s_own_is_an_error(tiny, tmp_path):
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "bad.yaml").write_text("backends: [eager\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml cannot be read as YAML"):
        collect_known(load_context(clean_environ(), str(tmp_path)), None, "")


@pytest.mark.parametrize("name", ["5", "1e3", "null", "True", "auto", "a b", "", "a=b", 5, None])
def test_a_name_that_no_run_can_choose_is_its_plugin_s_failure(site, name):
    install(site, "acme", EAGER + implement("register_compile_backends(register)", f"register({name!r}, EagerBackend)"))
    context = load_context(clean_environ())
    context.plugins.registry("register_compile_backends", "compile backend")
    (failure,) = context.plugins.failures
    assert failure.reason.startswith(
        f"register_compile_backends failed: ValueError: compile backend {name!r} cannot be"
    )


def test_what_makes_nothing_is_its_plugin_s_failure(site):
    install(site, "acme", implement("register_serve_targets(register)", "register('acme', 'Target')"))
    context = load_context(clean_environ())
    context.plugins.registry("register_serve_targets", "serve target")
    assert (
        "serve target acme is 'Target', which makes nothing; register its class" in context.plugins.failures[0].reason
    )


def test_what_nobody_can_choose_is_listed_and_said_where_it_is_named(site, tiny, in_process):
    (site / "conf" / "backend").mkdir(parents=True)
    file = site / "conf" / "backend" / "5.yaml"
    file.write_text("name: '5'\n")
    install(site, "odd", CONF)
    install(site, "five", EAGER + implement("register_compile_backends(register)", "register('5', EagerBackend)"))
    install(site, "homeless", implement("register_endpoints(register)", "register('poolng', '/x', 3)"))
    install(site, "cards", implement("register_multimodal_devices(register)", "raise OSError('no card')"))
    listed = in_process("plugins", COLUMNS="300")
    assert listed.returncode == 1
    for line in (
        f"{file} is no option that can be chosen",
        "compile backend '5' cannot be chosen by that name",
        "path /x of engine poolng: no plugin provides that engine; did you mean pooling?",
        "register_multimodal_devices failed: OSError: no card",
    ):
        assert line in listed.stdout, listed.stdout
    ended = in_process("explain", "backend", "backend=5")
    assert ended.returncode == 2 and f"5 is read as another value than text: rename {file}" in ended.stderr
    ended = in_process(*EAGER_FLOAT32, f"model.path={tiny}", "backend.name=5")
    assert ended.returncode == 2
    assert "no plugin provides compile backend 5 (set by backend.name=5); plugin five failed" in ended.stderr


def test_a_conflict_of_two_does_not_hide_the_list(site, in_process):
    for name in ("one", "two"):
        install(site, name, EAGER + implement("register_compile_backends(register)", "register('acme', EagerBackend)"))
    listed = in_process("plugins", COLUMNS="300")
    assert listed.returncode == 1 and "builtin.pooling" in listed.stdout
    assert "compile backend acme is registered by one and two" in listed.stdout
