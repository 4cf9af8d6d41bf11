"""Text files that a user hands over: a byte-order mark is skipped, another encoding refused in one line."""

import gzip
import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest

from sendnn_pipeline import Embedder
from sendnn_pipeline.config.secrets import read_api_keys
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.files import decode_text, read_text
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.known.entry import read_known_file
from sendnn_pipeline.models.facts import read_model_facts
from tests.reference import mean_pooled_ids
from tests.served import EAGER_FLOAT32

WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
KNOWN = Path(__file__).parents[1] / "conf" / "known" / "all-roberta-large-v1.yaml"


def test_the_mark_is_skipped_and_text_stays(tmp_path):
    for text in ("", "a", "\ufeffa", "zürich\n", "abcd\0e f"):
        assert decode_text(text.encode("utf-8")) == text.removeprefix("\ufeff")
    (tmp_path / "file").write_bytes("key".encode("utf-8-sig"))
    assert read_text(tmp_path / "file") == "key"


@pytest.mark.parametrize("encoding", WIDE)
def test_other_encodings_are_named(encoding):
    with pytest.raises(ValueError, match="UTF-16 or UTF-32: save it as UTF-8"):
        decode_text("text".encode(encoding))
    with pytest.raises(ValueError, match="not UTF-8 text: byte 1 is 0xfc"):
        decode_text("zürich".encode("latin-1"))


@pytest.mark.parametrize("name", ["gzip", "xz"])
def test_compressed_text_is_named(name):
    # Whether or not a header of gzip has a byte of zero where UTF-16 would.
    with pytest.raises(ValueError, match=f"it is compressed by {name}: unpack it first"):
        decode_text({"gzip": gzip.compress, "xz": lzma.compress}[name](b"text"))


def test_an_api_key_s_file(tmp_path):
    file = tmp_path / "key"
    file.write_bytes("secret\r\n".encode("utf-8-sig"))
    assert read_api_keys({}, str(file)) == ("secret",)
    file.write_text("secret", encoding="utf-16")
    with pytest.raises(ConfigError, match="cannot be read: it is UTF-16"):
        read_api_keys({}, str(file))


def test_a_model_s_files(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    for file in folder.rglob("*.json"):
        file.write_bytes(json.dumps(json.loads(file.read_text())).encode("utf-8-sig"))
    with Embedder(*EAGER_FLOAT32, f"model.path={folder}") as embedder:
        found = embedder.embed("hello world")
    assert np.allclose(found, mean_pooled_ids(tiny, [[2, 11, 12, 3]]), atol=1e-5)
    for name, load in (("config.json", read_model_facts), ("tokenizer.json", load_tokenizer)):
        (folder / name).write_text((tiny / name).read_text(), encoding="utf-16")
        with pytest.raises(ModelError, match=rf"{name}.*it is UTF-16 or UTF-32"):
            load(folder)
        shutil.copy(tiny / name, folder / name)


def test_a_known_configuration_s_file(tmp_path):
    file = tmp_path / "known.yaml"
    file.write_bytes(KNOWN.read_text().encode("utf-8-sig"))
    (found,) = read_known_file(str(file), "")
    assert found.names == ("all-roberta-large-v1",)
    file.write_text(KNOWN.read_text(), encoding="utf-16")
    with pytest.raises(ConfigError, match="cannot be read: it is UTF-16"):
        read_known_file(str(file), "")


def test_a_profile(tmp_path, in_process):
    (tmp_path / "profile").mkdir()
    file, text = tmp_path / "profile" / "site.yaml", "# @package _global_\nserve:\n  port: 8161\n"
    words = ("explain", "serve.port", "--config-dir", str(tmp_path), "profile=site", "model.dtype=float32")
    file.write_bytes(text.encode("utf-8-sig"))
    ended = in_process(*words)
    assert ended.stdout.startswith("serve.port = 8161"), ended.stderr
    file.write_text(text, encoding="utf-16")
    ended = in_process(*words)
    assert ended.returncode == 2 and f"{file} cannot be read: it is UTF-16 or UTF-32: save it" in ended.stderr
    file.write_text(text + "a: [\n")
    assert str(file) in in_process(*words).stderr
