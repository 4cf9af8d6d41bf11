"""Text files that a user hands over: UTF-8 whatever the locale, with or without a byte-order mark."""

import codecs
from pathlib import Path
from typing import Any

import yaml

from sendnn_pipeline.errors import ConfigError

BOM = codecs.BOM_UTF8
WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
# What compressed files begin with.
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"PK\x03\x04": "zip"}
# Of a file's beginning, what tells those, and UTF-16 and UTF-32 without a mark: text begins with one byte a character.
HEAD_BYTES = 4
# libyaml, which PyYAML's wheels have, reads ten times as fast.
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_head(data: bytes) -> None:
    """Refuse the beginning of a file in another encoding, or of a compressed one.

    Raises:
        ValueError: it is UTF-16 or UTF-32, or compressed.
    """
    for head, name in COMPRESSED.items():
        if data.startswith(head):
            raise ValueError(f"it is compressed by {name}: unpack it first")
    if data.startswith(WIDE_BOMS) or b"\0" in data[:HEAD_BYTES]:
        raise ValueError("it is UTF-16 or UTF-32: save it as UTF-8")


def decode_text(data: bytes) -> str:
    """Return the text of a whole file.

    Raises:
        ValueError: it is not UTF-8; the message is one line.
    """
    check_head(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None


def read_text(file: Path) -> str:
    """Read a text file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    return decode_text(file.read_bytes())


def parse_yaml(text: str) -> Any:
    """Return what YAML makes of a text.

    Raises:
        YAMLError: it is not YAML.
    """
    return yaml.load(text, YAML_LOADER)


def read_yaml(file: Path) -> Any:
    """Read a file of data.

    Raises:
        ConfigError: it cannot be read, or is not YAML; the message names it.
    """
    try:
        return parse_yaml(read_text(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from None
