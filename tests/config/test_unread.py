"""Files of a folder of options that nothing reads are named, with what to use instead."""

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError
from tests.conftest import clean_environ
from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.hooks.fake import implement, install

PROFILE = "keys of any group are a profile: {}/profile/NAME.yaml"
UNREAD = {
    "config.yaml": f"options lie in the folders of their groups; {PROFILE}",
    "site.yml": f"options lie in the folders of their groups; {PROFILE}",
    "Backend/mine.yaml": f"there is no group Backend, and none can be added; did you mean backend?; {PROFILE}",
    "backend/mine.yml": "its ending is to be .yaml",
    "known/mine.yml": "its ending is to be .yaml",
    "profile/more/mine.yaml": "it is to lie in {}/profile itself",
}
# A mounted ConfigMap has its files in a hidden folder, and Hydra's own options are two folders deep.
OTHERS = ("..2026_01/profile/a.yaml", "hydra/launcher/a.yaml", "model/e5.yaml", "notes.txt", "charts/a.json")


@pytest.fixture
def conf(tmp_path):
    """Return what adds a file by its name to a folder of one profile, and returns the folder."""
    folder = tmp_path / "mine"

    def add(name, text="serve: {port: 9}\n"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return folder

    add("profile/site.yaml", "# @package _global_\nserve: {port: 9}\n")
    return add


@pytest.mark.parametrize("name", UNREAD)
def test_a_file_that_nothing_reads_is_named_with_what_to_use(conf, name):
    folder = conf(name)
    context = load_context(clean_environ(), str(folder))
    assert context.warnings == (f"{folder / name} is not read: {UNREAD[name].format(folder)}",)
    assert context.compose(parse_overrides(["profile=site"])).draft["serve.port"] == 9


def test_many_are_one_line(conf):
    for number in range(5):
        folder = conf(f"values{number}.yaml")
    (line,) = load_context(clean_environ(), str(folder)).warnings
    assert line.startswith(f"{folder}/values0.yaml and 4 more are not read: ")


def test_what_is_read_or_is_nobody_s_option_is_not_named(conf):
    for name in OTHERS:
        folder = conf(name)
    assert load_context(clean_environ(), str(folder)).warnings == ()


@pytest.mark.parametrize("word", ["newgroup=my", "newgroup.a=4", "profile=own"])
def test_a_group_of_one_s_own_is_refused_with_what_is_possible(conf, word):
    conf("newgroup/my.yaml", "a: 1\n")
    folder = conf("profile/own.yaml", "# @package _global_\nnewgroup: {a: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_context(clean_environ(), str(folder)).compose(parse_overrides([word]))
    line = str(caught.value)
    assert line.startswith("there is no group newgroup, and none can be added; known: artifacts, backend, ")
    assert line.endswith(PROFILE.format(folder))


def test_a_plugin_s_files_are_named_too(site):  # noqa: F811
    (site / "conf").mkdir()
    (site / "conf" / "acme.yaml").write_text("name: acme\n")
    install(site, "acme", implement("config_paths()", "return HERE / 'conf'"))
    (line,) = load_context(clean_environ()).warnings
    assert line.startswith(f"{site}/conf/acme.yaml is not read: options lie in the folders of their groups")
