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
        session.say("about to answer")
        print("42")
"""
PLAN, NOTES = "Program", "note: scheduler.pausing (set by scheduler.pausing=false) is not used"


@pytest.fixture
def run(tmp_path, tiny):
    """Run a target that prints its answer, after a warning and a note, with further words."""
    install(tmp_path, "answer", TARGET + implement("register_serve_targets(register)", "register('answer', Answer)"))
    install(tmp_path, "broken", "raise OSError('no card')")
    words = (*ECHO, f"model.path={tiny}", "serve.target=answer", "scheduler.pausing=false")

    def run(*more):
        ended = sendnn(*words, *more, PYTHONPATH=f"{tmp_path}:{ECHO_FOLDER}")
        assert ended.returncode == 0, ended.stderr
        return ended

    return run


SAID = ("warning: plugin broken (broken 1.0) is not loaded", NOTES, "about to answer")


def test_by_default_all_is_on_stdout(run):
    ended = run()
    assert all(line in ended.stdout for line in (PLAN, *SAID, "42")) and not ended.stderr


def test_on_stderr_stdout_is_the_target_s_alone(run):
    ended = run("console=stderr")
    assert ended.stdout == "42\n" and all(line in ended.stderr for line in (PLAN, *SAID))


def test_quiet_leaves_out_plan_and_stages_and_no_warning(run):
    ended = run("console=quiet")
    assert ended.stdout == "42\n" and all(line in ended.stderr for line in SAID)
    assert len(ended.stderr.splitlines()) == len(SAID), ended.stderr


def test_what_does_not_compose_still_shows_its_warnings(tmp_path, in_process, monkeypatch):
    install(tmp_path, "broken", "raise OSError('no card')")
    monkeypatch.syspath_prepend(tmp_path)
    ended = in_process("backend=nothing", "console=stderr")
    assert ended.returncode == 2 and "plugin broken (broken 1.0) is not loaded: OSError: no card" in ended.stdout
