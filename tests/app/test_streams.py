"""Standard streams that nobody reads: closed ones take nothing, a full disk ends the command with one line."""

import subprocess
import sys

import pytest

from sendnn_pipeline.__main__ import refuse_mistyped
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.tools import TOOLS
from tests.served import ECHO, ROOT, environment, with_echo

MODULE = (sys.executable, "-m", "sendnn_pipeline")


def in_shell(words, streams, **variables):
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *MODULE, *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(**variables),
        check=False,
    )


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_goes_through_with_its_streams_closed(streams, tiny):
    words = (*ECHO, f"model.path={tiny}", "pipeline=precompile")
    ended = in_shell(words, streams, **with_echo())
    assert ended.returncode == 0 and ended.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["explain", "serve.port", "model.dtype=float32"], ["--help"]])
def test_output_on_a_full_disk_ends_with_one_line(words, unbuffered):
    ended = in_shell(words, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert ended.returncode == 1
    assert ended.stderr == ("error: standard output cannot be written: No space left on device; write it elsewhere\n")


def test_a_folder_that_was_removed_is_named(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = subprocess.run(
        ["sh", "-c", 'rmdir "$0" && exec "$@"', str(gone), *MODULE, "explain", "serve.port"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=gone,
        env=environment(PYTHONPATH=str(ROOT)),
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: the current folder cannot be read: No such file or directory; change to one that is there\n"
    )


@pytest.mark.parametrize(
    ("word", "tool"), [("doctr", "doctor"), ("explian", "explain"), ("migrate_env", "migrate-env"), ("Tune", "tune")]
)
def test_a_mistyped_tool_is_named(word, tool):
    with pytest.raises(ConfigError, match=f"^there is no tool {word}; did you mean {tool}\\?$"):
        refuse_mistyped([word, "model=minilm"], TOOLS)


@pytest.mark.parametrize("word", ["doctr=1", "--doctor", "minilm", "serve", "model/doctor"])
def test_other_words_are_the_run_s_to_read(word):
    refuse_mistyped([word], TOOLS)
    refuse_mistyped([], TOOLS)
