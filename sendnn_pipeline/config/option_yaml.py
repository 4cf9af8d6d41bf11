"""The text of options as Hydra reads it."""

from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from sendnn_pipeline.files import YAML_LOADER

# OmegaConf's own: other texts are numbers, and no key is there twice.
_OF_OMEGACONF: Any = get_yaml_loader()
_HYDRA: Any = (
    _OF_OMEGACONF if YAML_LOADER is yaml.SafeLoader else type("OptionLoader", (YAML_LOADER, _OF_OMEGACONF), {})
)


def read_values(text: Any) -> Any:
    """Return what Hydra makes of an option's text, or of a stream of it.

    Raises:
        YAMLError: it is not YAML.
    """
    return yaml.load(text, _HYDRA)
