"""Tables of tools where they are read: whole in a pipe, and without broken words on a terminal of 80 columns."""

import os
import pty
import subprocess
import sys

import pytest

from sendnn_pipeline.programs.key import ArtifactKeys
from sendnn_pipeline.programs.store import ArtifactStore
from tests.served import ROOT, environment

PROGRAM = "pool[batch=1..64,len=8..256]"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of one Program, of a model with a long name, and one as it was written before names were."""
    folder = tmp_path_factory.mktemp("artifacts")
    store = ArtifactStore(folder)
    fields = (("model", "0123456789abcdef"), ("dtype", "bfloat16"), ("backend", "openvino"))
    keys = ArtifactKeys(fields)
    name = "granite-embedding-278m-multilingual"
    store.publish(keys.key(PROGRAM), lambda partial: (partial / "x").write_text("x"), model=name)
    store.publish(keys.key("pool[batch=1,len=8]"), lambda partial: (partial / "x").write_text("x"))
    return f"artifacts.dir={folder}"


def on_terminal(*words):
    """Run a tool on a terminal of 80 columns, and return its lines."""
    ours, theirs = pty.openpty()
    variables = environment(COLUMNS="80", TERM="dumb")
    command = [sys.executable, "-m", "sendnn_pipeline", *words]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT, env=variables)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            # Of a terminal whose other end is closed.
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait(timeout=60) == 0, text
    return text.decode().splitlines()


def test_the_catalog_in_a_pipe_has_a_line_for_each_artifact(store, in_process):
    listed = in_process("catalog", "list", store).stdout.splitlines()
    lines = [line for line in listed if "pool[" in line]
    assert sorted(line.split()[-2:] for line in lines) == [
        ["0123456789abcdef,", "pool[batch=1,len=8]"],
        ["granite-embedding-278m-multilingual,", PROGRAM],
    ]
    assert all("openvino" in line and "bfloat16" in line and "MiB" in line for line in lines)


def test_the_catalog_on_a_terminal_breaks_no_word(store):
    lines = on_terminal("catalog", "list", store)
    assert f"  granite-embedding-278m-multilingual, {PROGRAM}" in lines
    assert all(len(line) <= 80 for line in lines[:-1])


def test_plugins_are_not_cut_in_a_pipe(in_process):
    listed = in_process("plugins").stdout
    assert "…" not in listed
    (line,) = [line for line in listed.splitlines() if line.startswith("builtin.pooling")]
    assert "(sendnn_pipeline.pooling.plugin)" in line
    assert line.rstrip().endswith("register_endpoints, register_engines, register_schemas")


def test_plugins_are_not_cut_on_a_terminal():
    assert "…" not in "".join(on_terminal("plugins"))
