"""The API key comes from a file or a variable, never from both, and never from an empty one."""

import pytest

from sendnn_pipeline.config.environment import API_KEY
from sendnn_pipeline.config.secrets import read_api_keys
from sendnn_pipeline.errors import ConfigError


def test_the_key_comes_from_the_variable_or_from_the_file(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("  of the file\n")
    assert read_api_keys({}, None) == read_api_keys({API_KEY: ""}, None) == ()
    assert read_api_keys({API_KEY: "of the variable"}, None) == ("of the variable",)
    assert read_api_keys({}, str(tmp_path / "key")) == ("of the file",)
    assert read_api_keys({API_KEY: "secret\n"}, None) == ("secret",), "no header has a line break"
    with pytest.raises(ConfigError, match=f"{API_KEY} has blanks alone; put the key in it, or unset it"):
        read_api_keys({API_KEY: " \n"}, None)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_api_keys({API_KEY: ""}, "~/key") == ("of the file",)


def test_a_file_may_hold_several_keys_and_a_byte_order_mark(tmp_path):
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbfone\r\n\n two \n")
    assert read_api_keys({}, str(tmp_path / "keys")) == ("one", "two")


@pytest.mark.parametrize(
    ("content", "environ", "says"),
    [
        (None, {}, "cannot be read"),
        (b"\xff\xfe", {}, "cannot be read"),
        (b" \n", {}, "is empty"),
        (b"one", {API_KEY: "other"}, f"serve.api_key_file and {API_KEY} are both set"),
    ],
)
def test_a_key_that_is_none_is_named_without_being_shown(tmp_path, content, environ, says):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_api_keys(environ, str(file), "serve.api_key_file=key")
    assert says in str(caught.value) and "(set by serve.api_key_file=key)" in str(caught.value)
    assert "other" not in str(caught.value)
