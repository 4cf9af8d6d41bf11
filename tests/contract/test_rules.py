"""Rules of the code base, as tests."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.compose import open_composer
from sendnn_pipeline.config.options import NOT_GROUPS, own_conf_dir
from sendnn_pipeline.hooks.manager import BUILTINS
from sendnn_pipeline.hooks.specs import HOOKS
from tests.contract import tables

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sendnn_pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))
# What stages, Programs, backends, processes, observers and configuration know of no engine.
WITHOUT_ENGINES = ("pipeline", "programs", "backends", "distributed", "observe", "config")
WORDS_OF_POOLING = ("pooling", "classifies", "prompt_len", "token_types", "dimensions")
MAX_LINES, MAX_MEDIAN = 250, 90


def test_imports_follow_their_contracts():
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "7 kept, 0 broken" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("room", WITHOUT_ENGINES)
def test_a_room_without_engines_has_no_word_of_pooling(room):
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in sorted((PACKAGE / room).rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        # A variable of the registry, which the plugin for vLLM writes into its catalog, is that plugin's word.
        if any(word in line.lower() for word in WORDS_OF_POOLING) and "SENDNN_INFERENCE_" not in line
    ]
    assert found == []


def test_files_are_short():
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
    assert statistics.median(count for count in lines.values() if count) <= MAX_MEDIAN


def test_the_top_level():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    tops = {Path(name).parts[0] for name in tracked}
    allowed = {"conf", "sendnn_pipeline", "plugins", "tests", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert {top for top in tops if not top.startswith(".")} <= allowed


def test_every_hook_is_documented_and_used(context):
    readme = (PACKAGE / "hooks" / "README.md").read_text()
    for hook in HOOKS:
        assert f"`{hook}(" in readme, f"{hook} is not in hooks/README.md"
    used = {hook for plugin in context.plugins.loaded if plugin.name in BUILTINS for hook in plugin.hooks}
    # Of these ours are files of conf/, or objects: packages in plugins/ and tests/ use them.
    others = {"register_config_registries", "stage_started", "stage_finished", "stage_failed"}
    assert set(HOOKS) - others == used
    assert set(BUILTINS) <= {plugin.name for plugin in context.plugins.loaded}


def options():
    files = (file for file in sorted(own_conf_dir().glob("*/*.yaml")) if file.parent.name not in NOT_GROUPS)
    return [(file.parent.name, file.stem) for file in files]


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_of_every_group_composes(context, group, option):
    words = [f"{group}={option}"] + (["model.path=/some/folder"] if option == "local" else [])
    draft = context.compose(parse_overrides(words)).draft
    if group != "backend" or option != "auto":
        assert draft.choices[group] == option
    draft.config()


def test_every_key_that_an_option_sets_has_a_type(context):
    keys = context.schemas.keys()
    with open_composer(context.tree, context.schemas) as composer:
        for group, option in options():
            files = composer.option_files([f"{group}={option}"])
            (values,) = (file.values for file in files if (file.group, file.option) == (group, option))
            # The one that leaves open what it is for.
            assert (values or option == "local") and values.keys() <= keys.keys(), (group, option)


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_readme_s_tables_are_made_of_what_they_describe(name):
    table = tables.marked(name, tables.TABLES[name](tables.own_context()))
    assert table in (ROOT / "README.md").read_text(), "run python -m tests.contract.tables"


def test_every_word_of_the_readme_that_names_a_key_names_one(context):
    keys = context.schemas.keys()
    groups = {key.partition(".")[0] for key in keys if "." in key}
    text = (ROOT / "README.md").read_text()
    named = {match[1] for match in re.finditer(r"[`' (]((?:\w+\.)+\w+)=", text) if match[1].split(".")[0] in groups}
    # The one that shows what a wrong word comes to.
    assert named and named - {"serve.prt"} <= keys.keys()


def test_the_primary_config_is_a_defaults_list_and_nothing_else():
    assert yaml.safe_load((own_conf_dir() / "config.yaml").read_text()).keys() == {"defaults"}


def test_ci_runs_the_readme_s_test_command_and_the_checks():
    wanted = "pip install --editable '.[dev]' && python -m pytest"
    assert wanted in (ROOT / "README.md").read_text()
    # Flags that say how, not what.
    lines = (ROOT / ".ci" / "run").read_text().replace(" --quiet", "").replace(" --no-compile", "").splitlines()
    install, test = wanted.split(" && ")
    assert install in lines and any(line.startswith(test) for line in lines)
    assert any(line.startswith("nice .ci/checks ") for line in lines)
    checks = (ROOT / ".ci" / "checks").read_text().splitlines()
    assert checks[-3:] == ["ruff check .", "ruff format --check .", "mypy"]
