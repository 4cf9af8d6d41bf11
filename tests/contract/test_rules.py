"""Rules of the code base, as tests."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sendnn_pipeline.config.command_line import parse_words
from sendnn_pipeline.config.keys import keys_of
from sendnn_pipeline.config.options import conf_dir
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.hooks.manager import BUILTINS, load_plugins
from sendnn_pipeline.hooks.specs import HOOKS
from tests.conftest import clean_environ

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sendnn_pipeline"


def command(*words):
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint():
    command("ruff", "check", ".")


def test_format():
    command("ruff", "format", "--check", ".")


def test_types():
    command("mypy")


def test_imports_point_down():
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "0 broken" in done.stdout, done.stdout + done.stderr


def test_no_file_is_over_300_lines():
    long = {f: n for f in PACKAGE.rglob("*.py") if (n := len(f.read_text().splitlines())) > 300}
    assert long == {}


def test_the_top_level():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    tops = {Path(name).parts[0] for name in tracked}
    allowed = {"conf", "sendnn_pipeline", "plugins", "tests", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert {top for top in tops if not top.startswith(".")} <= allowed


def test_every_hook_is_documented_and_used():
    readme = (PACKAGE / "hooks" / "README.md").read_text()
    for hook in HOOKS:
        assert f"`{hook}(" in readme, f"{hook} is not in hooks/README.md"
    plugins = load_plugins(clean_environ())
    plugins.add("run.everything", _observers())
    used = {hook for plugin in plugins.loaded for hook in plugin.hooks}
    # The one hook of which ours are files of conf/: a package in plugins/ uses it.
    assert set(HOOKS) - {"register_config_registries"} == used
    assert set(BUILTINS) <= {plugin.name for plugin in plugins.loaded}


def _observers():
    from rich.console import Console

    from sendnn_pipeline.observe.console import ConsoleProgress

    return ConsoleProgress(Console())


def options():
    return [
        (file.parent.name, file.stem)
        for file in sorted(conf_dir().glob("*/*.yaml"))
        if file.parent.name != "env"
    ]  # fmt: skip


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_of_every_group_composes(host, group, option):
    words = [f"{group}={option}"] + (["model.path=/some/folder"] if option == "local" else [])
    composed = host.layer(parse_words(words)).composed
    if group != "backend" or option != "auto":
        assert composed.choices[group] == option


def test_every_key_that_an_option_sets_is_in_the_schema(host):
    known = keys_of(RunConfig)
    for group, option in options():
        for key in host.tree.values(group, option):
            assert key in known or group == "backend" or key.startswith("known.match."), (group, option, key)


def test_every_key_is_documented():
    import ast

    for node in ast.parse((PACKAGE / "config" / "schema.py").read_text()).body:
        if not isinstance(node, ast.ClassDef) or node.name == "RunConfig":
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and "Config" not in ast.unparse(field.annotation):
                documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert documented, f"{node.name}.{ast.unparse(field.target)} has no docstring"


def test_the_readme_s_table_of_variables_is_made_of_the_rows(host):
    from tests.contract.tables import variables_table

    assert variables_table(host) in (ROOT / "README.md").read_text(), "run python -m tests.contract.tables"


def test_the_readme_s_table_of_options_is_made_of_conf(host):
    from tests.contract.tables import options_table

    assert options_table() in (ROOT / "README.md").read_text(), "run python -m tests.contract.tables"


def test_the_readme_s_table_of_known_configurations_is_made_of_conf():
    from tests.contract.tables import known_table

    assert known_table() in (ROOT / "README.md").read_text(), "run python -m tests.contract.tables"


def test_the_primary_config_is_a_defaults_list_and_nothing_else():
    assert yaml.safe_load((conf_dir() / "config.yaml").read_text()).keys() == {"defaults"}


def test_ci_runs_the_readme_s_test_command():
    wanted = "pip install --editable '.[dev]' && python -m pytest"
    assert wanted in (ROOT / "README.md").read_text()
    script = (ROOT / ".ci" / "run").read_text()
    assert wanted in script.replace(" --quiet", "")
