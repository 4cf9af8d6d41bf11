"""Completion, by a real bash: what its script installs is asked, and what comes back is what bash offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.hooks.fake import implement, install
from tests.served import ROOT, environment

# As bash itself calls what it completes with: the line, the cursor, and the word that it stands in.
ASK = """
eval "$({install})"
complete -p sendnn-pipeline
for line in {lines}; do
  COMP_LINE=$line; COMP_POINT=${{#line}}; COMP_WORDS=($line)
  [[ $line == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMPREPLY=()
  hydra_bash_completion
  echo "${{COMPREPLY[*]}}"
done
"""
SCRIPT = str(Path(sys.executable).with_name("sendnn-pipeline"))
MODULE = f"{sys.executable} -m sendnn_pipeline -sc install=bash"


def offered(*lines, how=MODULE, **variables):
    """Return what bash offers for each line."""
    quoted = " ".join(f"'{line}'" for line in lines)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", ASK.format(install=how, lines=quoted)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(PATH=path, **variables),
    )
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    rule, *answers = ended.stdout.splitlines()
    assert rule.endswith(" -F hydra_bash_completion sendnn-pipeline")
    return [answer.split() for answer in answers]


@pytest.fixture
def mine(site):  # noqa: F811
    """A folder of options, and a plugin with another."""
    for folder, name, text in (
        ("mine/profile", "site", "# @package _global_\nserve: {port: 9}\n"),
        ("conf/model", "acme", "path: /models/acme\n"),
    ):
        (site / folder).mkdir(parents=True)
        (site / folder / f"{name}.yaml").write_text(text)
    install(site, "acme", implement("config_paths()", "return HERE / 'conf'"))
    return site


def test_bash_offers_groups_options_keys_values_tools_and_files(mine):
    name = "sendnn-pipeline"
    groups, options, plugins, own, key, value, tool, names, wrong, file = offered(
        f"{name} back",
        f"{name} backend=",
        f"{name} model=",
        f"{name} --config-dir {mine}/mine profile=",
        f"{name} backend=inductor backend.f",
        f"{name} log.level=w",
        f"{name} expl",
        f"{name} explain serve.po",
        f"{name} --config-dir /no/such/folder serve.",
        f"{name} model.path={mine}/conf/mo",
        PYTHONPATH=str(mine),
    )
    assert (groups, tool) == (["backend.", "backend="], ["explain"])
    assert options == [f"backend={o}" for o in ("auto", "eager", "inductor", "sendnn", "sendnn_compile_only")]
    assert plugins == ["model=acme", "model=local", "model=minilm", "model=smollm2"] and own == ["profile=site"]
    assert key == ["backend.freezing="] and value == ["log.level=warning"]
    assert names == ["serve.port", "serve.port="] and wrong == [] and file == [f"model.path={mine}/conf/model/"]


def test_a_key_of_another_option_is_not_offered():
    (others,) = offered("sendnn-pipeline backend=eager backend.f")
    assert others == []


def test_the_script_installs_the_same():
    assert offered("sendnn-pipeline serve.por", how=f"{SCRIPT} -sc install=bash") == [["serve.port="]]
