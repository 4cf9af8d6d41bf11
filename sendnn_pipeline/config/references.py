"""References in values, such as ``${oc.env:HOME}``."""

from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, ValidationError

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.options import flatten
from sendnn_pipeline.errors import ConfigError

MARK = "${"


def resolve_references(config: Any) -> None:
    """Put what they refer to in their places.

    Args:
        config: of OmegaConf.

    Raises:
        ConfigError: there is no such thing; the message names the key, which OmegaConf's does not.
        OmegaConfBaseException: what is there is of another type than the key.
    """
    for key, value in flatten(OmegaConf.to_container(config)):  # type: ignore[arg-type]  # a mapping
        if isinstance(value, str) and MARK in value:
            _try_to_resolve(config, key, value)
    OmegaConf.resolve(config)


def _try_to_resolve(config: Any, key: str, value: str) -> None:
    try:
        OmegaConf.select(config, key)
    except ValidationError:
        raise
    except InterpolationResolutionError as error:
        first = str(error).splitlines()[0]
        reason = first.partition("raised while resolving interpolation: ")[2].strip('"') or first
        raise ConfigError(f"{key}={value} refers to nothing: {reason}", key=key) from None


def show_resolved(draft: Draft) -> None:
    """Record what a value that refers to something comes to, beside who set it."""
    for key, origins in draft.origins.items():
        if isinstance(origins[0].value, str) and MARK in origins[0].value and key in draft:
            draft.origins[key] = (replace(origins[0], value=draft[key]), *origins[1:])
