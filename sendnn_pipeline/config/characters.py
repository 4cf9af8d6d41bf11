"""YAML whose numbers are the characters that stand there: what a text key keeps."""

from typing import Any, ClassVar

import yaml

from sendnn_pipeline.files import YAML_LOADER


class _Characters(YAML_LOADER):  # type: ignore[misc]  # libyaml's or Python's
    """Reads numbers and booleans as the characters that stand there."""

    yaml_constructors: ClassVar = yaml.SafeLoader.yaml_constructors | {
        f"tag:yaml.org,2002:{kind}": yaml.SafeLoader.construct_scalar for kind in ("int", "float", "bool", "timestamp")
    }


def read_characters(text: str) -> Any:
    """Return what is in a text, numbers and booleans as they are written.

    Raises:
        YAMLError: it is not YAML.
    """
    return yaml.load(text, _Characters)
