"""Plugins' observers are told every event in order, in a thread of their own: they hold up neither run nor probes."""

import json
import time

import httpx
import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.errors import PluginError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.messages import StageEvent
from sendnn_pipeline.observe import observers
from sendnn_pipeline.observe.observers import Observers
from tests.conftest import clean_environ
from tests.hooks.fake import implement, install
from tests.served import ECHO, Served

# Until the test says so, or for a minute, which no test waits.
HANG = "import time\nwhile not (HERE / 'go').exists() and time.monotonic() < ENDS:\n    time.sleep(0.01)"
NOTES = "import time\nENDS, NOTES = time.monotonic() + 60, HERE / 'notes'\n"
NOTE = "with NOTES.open('a') as file:\n    file.write(f'{event.stage} {event.program} {event.state}\\n')"
HOOKS = ("stage_started(event)", "stage_finished(event)", "stage_failed(event)")


def notes(site):
    return [tuple(line.split()) for line in (site / "notes").read_text().splitlines()]


def test_every_event_is_told_in_its_order(site, tiny, with_echo, whole_run):
    code = NOTES + "".join(implement(hook, f"time.sleep(0.02)\n{NOTE}") for hook in HOOKS)
    install(site, "slow", code)
    ended = whole_run(*ECHO, f"model.path={tiny}", "pipeline=precompile", **with_echo)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    program = "echo[batch=1..8]"
    assert notes(site) == [
        *(("load", "started"), ("load", "finished")),
        *(("compile", "started"), ("compile", program, "started"), ("compile", program, "finished")),
        *(("compile", "finished"), ("warmup", "started"), ("trace", program, "started")),
        *(("trace", program, "finished"), ("deploy", program, "started")),
        *(("deploy", program, "finished"), ("warmup", program, "started")),
        *(("warmup", program, "finished"), ("warmup", "finished")),
    ]


def test_an_observer_that_hangs_delays_neither_probes_nor_the_run(site, tiny, with_echo):
    install(site, "hangs", NOTES + implement("stage_started(event)", HANG))
    with Served(*ECHO, f"model.path={tiny}", **with_echo) as served:
        began = time.monotonic()
        assert served.get("/live").status_code == served.get("/ready").status_code == 200
        assert served.post("/v1/echo", json={"input": "hello"}).json()["data"] == ["hello"]
        assert time.monotonic() - began < 5
        served.terminate()
        assert served.exit_code() == 0
    assert "note: plugin hangs observes for more than 2 s and is left behind" in served.output


def test_an_observer_that_hangs_while_a_run_loads_leaves_live_quick(site, tiny, with_echo):
    """The engine waits until the test has asked, so that the probe is answered while it loads."""
    install(site, "hangs", NOTES + implement("stage_started(event)", HANG))
    slow = "from echo_engine import EchoConfig, EchoEngine\nclass Slow(EchoEngine):\n    name = 'slow'\n"
    slow += "    def open(self, run, world):\n        while not (HERE / 'load').exists(): time.sleep(0.01)\n"
    slow += "        return super().open(run, world)\n" + implement(
        "register_engines(register)", "register('slow', Slow)"
    )
    install(site, "slow", NOTES + slow + implement("register_schemas(store)", "store('engine', 'slow', EchoConfig)"))
    with Served(*ECHO, "engine.name=slow", f"model.path={tiny}", "serve.port=0", wait=False, **with_echo) as served:
        served.wait_line("load …")
        (port,) = listening_ports(served.process.pid)
        began = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/live", timeout=5).status_code == 200
        assert time.monotonic() - began < 5
        assert httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 503
        (site / "load").touch()
        served.wait_ready()


def listening_ports(pid):
    import psutil

    return {each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == "LISTEN"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(observers, "CLOSE_SECONDS", 0.1)


def test_ours_are_told_at_once_and_one_that_hangs_is_named(site, quick):
    install(site, "hangs", NOTES + implement("stage_started(event)", HANG))
    told = []
    listener = type("Listener", (), {"on_stage": lambda self, event: told.append(event.stage)})()
    lines = []
    with Observers([listener], load_plugins(clean_environ()), None, lines.append) as tell:
        for stage in ("load", "compile"):
            tell(StageEvent(stage, "started"))
        assert told == ["load", "compile"]
    assert lines == ["plugin hangs observes for more than 0.1 s and is left behind"]
    (site / "go").touch()


@pytest.mark.parametrize("error", ["OSError('full')", "SystemExit(3)", "PipelineError('full')"])
def test_one_that_fails_is_dropped_and_the_others_are_told_on(site, error):
    code = "from sendnn_pipeline.errors import PipelineError\n"
    install(site, "fails", code + implement("stage_started(event)", f"raise {error}"))
    install(site, "works", NOTES + implement("stage_started(event)", NOTE))
    plugins, lines = load_plugins(clean_environ()), []
    with Observers([], plugins, None, lines.append) as tell:
        for stage in ("load", "compile", "warmup"):
            tell(StageEvent(stage, "started"))
    assert notes(site) == [("load", "started"), ("compile", "started"), ("warmup", "started")]
    assert [failure.name for failure in plugins.failures] == ["fails"]
    (line,) = lines
    assert line.startswith("plugin fails (fails 1.0) is dropped: stage_started failed: ")


def test_failed_plugins_are_counted_those_that_fail_during_the_run_too(site, tiny, with_echo):
    install(site, "bad", "raise OSError('no device')")
    install(site, "late", implement("stage_started(event)", "raise OSError('no device')"))
    with Served(*ECHO, f"model.path={tiny}", **with_echo) as served:
        served.wait_line(r"note: plugin late \(late 1.0\) is dropped: stage_started failed: OSError: no device")
        assert "sendnn_pipeline:plugin_load_failures_total 2.0" in served.get("/metrics").text
        assert json.loads(served.get("/info").text)["plugins"][-2:] == ["echo", "late"]


OPTIONS = """
from dataclasses import dataclass, field
from typing import Annotated
from msgspec import Meta
NOTES = HERE / 'notes'

@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    stages: list[str] = field(default_factory=lambda: ['load'])
    '''Stages to note.'''
    at_least: Annotated[float, Meta(ge=0)] = 0.0
    '''Seconds.'''
"""
ROW = "WATCH_SECONDS: {key: observe.watch.at_least, default: '0', doc: The least that is noted.}\n"


@pytest.fixture
def watch(site):
    """Install an observer with options, and a variable of one."""
    code = OPTIONS + implement("register_schemas(store)", "store('observe', 'watch', WatchConfig)")
    code += implement("config_paths()", "return HERE / 'watch_conf'")
    code += implement("register_metrics(registry, run)", "assert run.config.observe.watch.at_least >= 0")
    body = "options = run.config.observe.watch\n"
    body += "if event.stage in options.stages and event.seconds >= options.at_least:\n    "
    install(site, "watch", code + implement("stage_finished(event, run)", body + NOTE.replace("\n", "\n    ")))
    (site / "watch_conf" / "env").mkdir(parents=True)
    (site / "watch_conf" / "env" / "watch.yaml").write_text(ROW)
    return site


def test_an_observer_has_options_as_everything_else(watch, tiny, with_echo, in_process, whole_run):
    words = (*ECHO, f"model.path={tiny}", "pipeline=precompile")
    assert whole_run(*words, "observe.watch.stages=[load,warmup]", **with_echo).returncode == 0
    assert notes(watch) == [("load", "finished"), ("warmup", "echo[batch=1..8]", "finished"), ("warmup", "finished")]
    explained = in_process("explain", "observe", "model.dtype=float32", WATCH_SECONDS="2.5", **with_echo)
    assert "observe.watch.at_least = 2.5\n  Seconds.\n  from WATCH_SECONDS (env)" in explained.stdout
    wrong = in_process(*words, "observe.watch.stage=load", **with_echo)
    assert wrong.returncode == 2 and "unknown key observe.watch.stage; did you mean" in wrong.stderr
    low = in_process(*words, "observe.watch.at_least=-1", **with_echo)
    assert low.returncode == 2 and "observe.watch.at_least=-1.0 must be" in low.stderr
    assert "  observe.watch.at_least=0.0\n      Seconds.\n" in in_process("--help", **with_echo).stdout


def test_options_of_an_observer_need_a_name(site):
    install(site, "watch", OPTIONS + implement("register_schemas(store)", "store('observe', '', WatchConfig)"))
    with pytest.raises(PluginError, match="schema WatchConfig of observe needs a name such as acme, not ''"):
        load_context(clean_environ())
