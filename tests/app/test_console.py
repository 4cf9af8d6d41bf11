"""``console=``: what a target prints is not mixed with what the run says of itself, and nothing is lost."""

import pytest

from tests.hooks.fake import implement, install
from tests.served import ECHO, ECHO_FOLDER, sendnn

TARGET = """
class Answer:
    ends, keys = True, ()

    def prepare(self, run, endpoints):
        pass

    def run(self, session):
        import asyncio
        session.say("about to answer")
        asyncio.run(self.ask(session))

    async def ask(self, session):
        async with session.warm_engine() as engine:
            (answer,) = (await engine.ask("/v1/echo", {"input": session.run.config.observe.answer.text}))["data"]
        print(answer)

from dataclasses import dataclass
from echo_engine import EchoConfig, EchoEngine

@dataclass(frozen=True, kw_only=True)
class Options:
    text: str = "hello"

class Loud(EchoEngine):
    name = "loud"

    def open(self, run, world):
        print("a library's word")
        return super().open(run, world)
"""
PLAN, NOTES = "Program", "note: scheduler.pausing (set by scheduler.pausing=false) is not used"


@pytest.fixture
def run(tmp_path, tiny):
    """Run a target that prints its answer, after a warning and a note, with further words."""
    code = TARGET + implement("register_serve_targets(register)", "register('answer', Answer)")
    code += implement("register_engines(register)", "register('loud', Loud)")
    code += implement(
        "register_endpoints(register)", "from echo_engine import ECHO\nregister('loud', '/v1/echo', ECHO)"
    )
    schemas = "store('observe', 'answer', Options)\nstore('engine', 'loud', EchoConfig)"
    install(tmp_path, "answer", code + implement("register_schemas(store)", schemas))
    install(tmp_path, "broken", "raise OSError('no card')")
    words = (*ECHO, f"model.path={tiny}", "engine.name=loud", "serve.target=answer", "scheduler.pausing=false")

    def run(*more):
        return sendnn(*words, *more, PYTHONPATH=f"{tmp_path}:{ECHO_FOLDER}")

    return run


SAID = ("warning: plugin broken (broken 1.0) is not loaded", NOTES, "about to answer", "a library's word")


def test_by_default_all_is_on_stdout(run):
    ended = run()
    assert all(line in ended.stdout for line in (PLAN, *SAID, "hello")) and not ended.stderr


def test_on_stderr_stdout_is_the_target_s_alone(run):
    ended = run("console=stderr")
    assert ended.stdout == "hello\n" and all(line in ended.stderr for line in (PLAN, *SAID))


def test_quiet_leaves_out_plan_and_stages_and_no_warning(run):
    ended = run("console=quiet")
    assert ended.stdout == "hello\n" and all(line in ended.stderr for line in SAID)
    assert len(ended.stderr.splitlines()) == len(SAID), ended.stderr


def test_a_request_that_is_refused_ends_a_target_with_one_line(run):
    ended = run("console=quiet", "observe.answer.text=''")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == "error: serve.target=answer was refused: input is empty"


def test_what_does_not_compose_still_shows_its_warnings(tmp_path, in_process, monkeypatch):
    install(tmp_path, "broken", "raise OSError('no card')")
    monkeypatch.syspath_prepend(tmp_path)
    ended = in_process("backend=nothing", "console=stderr")
    assert ended.returncode == 2 and "plugin broken (broken 1.0) is not loaded: OSError: no card" in ended.stdout
