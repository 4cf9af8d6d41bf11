"""The text of options: as Hydra reads it, and as it stands there."""

from typing import Any, ClassVar

import yaml
from omegaconf._utils import get_yaml_loader

from sendnn_pipeline.files import YAML_LOADER

# OmegaConf's own: other texts are numbers, and no key is there twice.
_OF_OMEGACONF: Any = get_yaml_loader()
_HYDRA: Any = (
    _OF_OMEGACONF if YAML_LOADER is yaml.SafeLoader else type("OptionLoader", (YAML_LOADER, _OF_OMEGACONF), {})
)


class _Characters(YAML_LOADER):  # type: ignore[misc]  # libyaml's or Python's
    """Reads numbers and booleans as the characters that stand there."""

    yaml_constructors: ClassVar = yaml.SafeLoader.yaml_constructors | {
        f"tag:yaml.org,2002:{kind}": yaml.SafeLoader.construct_scalar for kind in ("int", "float", "bool", "timestamp")
    }


def read_values(text: Any) -> Any:
    """Return what Hydra makes of an option's text, or of a stream of it.

    Raises:
        YAMLError: it is not YAML.
    """
    return yaml.load(text, _HYDRA)


def read_characters(text: str) -> Any:
    """Return the same with numbers and booleans as text.

    Raises:
        YAMLError: it is not YAML.
    """
    return yaml.load(text, _Characters)
