"""What a folder of options lists and nobody can read: named, and never left out as if it were not there."""

import os
from pathlib import Path

import pytest

from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.errors import ConfigError
from tests.conftest import clean_environ

MAKE = {
    "it is a link to nothing": lambda file: file.symlink_to("/nowhere/site.yaml"),
    "Too many levels of symbolic links": lambda file: file.symlink_to(file.name),
    "it is no file": Path.mkdir,
    "it is no file ": os.mkfifo,
}


@pytest.mark.parametrize("reason", MAKE)
@pytest.mark.parametrize("group", ["profile", "serve"])
def test_an_option_that_cannot_be_read_is_named(tmp_path, group, reason):
    file = tmp_path / group / "site.yaml"
    file.parent.mkdir()
    MAKE[reason](file)
    with pytest.raises(ConfigError) as caught:
        load_context(clean_environ(), str(tmp_path)).compose(parse_overrides([f"{group}=site"]))
    assert str(caught.value) == f"{file} cannot be read: {reason.strip()}; options are files of YAML"
