"""Helper Programs are compiled by ``backend.simple`` with its own default options, whatever the run's backend has."""

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.app.resolve import resolve_run
from sendnn_pipeline.backends.config import InductorConfig
from sendnn_pipeline.backends.create import create_simple_backend
from sendnn_pipeline.backends.inductor import InductorBackend
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.hooks.loading import load_plugins
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import ECHO, FLOAT32

HELPER = """
from sendnn_pipeline.backends.base import Graph
from sendnn_pipeline.engines.plan import Plan, Step
from sendnn_pipeline.programs.program import Dim, Program
from echo_engine import PROGRAM, EchoConfig, EchoCore, EchoEngine

COUNT = Program("count", (Dim("rows", 8, 1),), helper=True)

class Core(EchoCore):
    def rehearse(self, program, sizes, *, check):
        return 1.0

class Helped(EchoEngine):
    name = "helped"

    def plan(self, config, model, limits):
        steps = {PROGRAM: (Step((1,), 1),), COUNT: (Step((1,), 1),)}
        return Plan(steps=steps, max_input_tokens=64, unit="texts")

    def open(self, run, world):
        return Core(EchoConfig(name="helped"))
"""
BACKENDS = """
from dataclasses import dataclass
from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.config.schema import BackendConfig

@dataclass(frozen=True, kw_only=True)
class Options(BackendConfig):
    level: int = 1

class Noting(EagerBackend):
    def compile(self, graph):
        with (HERE / "notes").open("a") as file:
            file.write(f"{graph.name} {self.options.name} {self.options.level}\\n")
        return super().compile(graph)
"""


@pytest.fixture
def helped(site, with_echo):
    """Install an engine with a helper Program, and two backends of one kind of options."""
    (site / "conf" / "backend").mkdir(parents=True)
    for name in ("main", "small"):
        text = f"defaults: [{name}_schema, _self_]\nname: {name}\nlevel: 5\n"
        (site / "conf" / "backend" / f"{name}.yaml").write_text(text)
    code = HELPER + BACKENDS + implement("config_paths()", "return HERE / 'conf'")
    schemas = (
        "store('engine', 'helped', EchoConfig)\nstore('backend', 'main', Options)\nstore('backend', 'small', Options)"
    )
    code += implement("register_schemas(store)", schemas)
    code += implement("register_engines(register)", "register('helped', Helped)")
    both = "register('main', Noting)\nregister('small', Noting)"
    install(site, "helped", code + implement("register_compile_backends(register)", both))
    return with_echo


def words(tiny, *more):
    return *FLOAT32, f"model.path={tiny}", "engine=echo", "engine.name=helped", "pipeline=precompile", *more


def test_a_helper_is_compiled_by_the_simple_backend_with_its_own_defaults(site, helped, tiny, whole_run):
    ended = whole_run(*words(tiny, "backend=main", "backend.level=9", "backend.simple=small"), **helped)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (site / "notes").read_text().splitlines() == ["echo[batch=1..8] main 9", "count[rows=1..8] small 1"]


def test_one_backend_may_compile_both_and_is_still_made_twice(site, helped, tiny, whole_run):
    ended = whole_run(*words(tiny, "backend=main", "backend.level=9", "backend.simple=main"), **helped)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (site / "notes").read_text().splitlines() == ["echo[batch=1..8] main 9", "count[rows=1..8] main 1"]


def test_inductor_as_the_simple_backend_takes_none_of_another_s_options(helped):
    simple = create_simple_backend(load_plugins(clean_environ()), "inductor")
    assert simple.limits == InductorBackend(InductorConfig()).limits
    assert simple.limits != InductorBackend(InductorConfig(freezing=True)).limits
    with pytest.raises(ConfigError, match=r"no plugin provides compile backend fast \(set by here\)"):
        create_simple_backend(load_plugins(clean_environ()), "fast", where="here")


def resolve(tiny, *more):
    context = load_context(clean_environ())
    return resolve_run(context, compose_run(context, parse_overrides(words(tiny, *more))), tiny)


def test_a_backend_that_compiles_no_helpers_is_refused_where_there_are_some(helped, tiny):
    with pytest.raises(
        ConfigError, match=r"backend\.simple=sendnn compiles no helper Programs \(set by backend\.simple"
    ):
        resolve(tiny, "backend=main", "backend.simple=sendnn")
    with pytest.raises(ConfigError, match="no plugin provides compile backend fast"):
        resolve(tiny, "backend=main", "backend.simple=fast")


def test_without_helpers_it_has_no_effect_and_the_run_says_so(helped, tiny):
    notices = resolve(tiny, *ECHO, f"model.path={tiny}", "engine.name=echo", "backend.simple=sendnn").draft.notices
    reason = "backend.simple (set by backend.simple=sendnn) is not used by this run: the engine has no helper Programs"
    assert notices == [reason]
