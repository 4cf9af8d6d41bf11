"""Hydra's loader, but for how often it reads: a composition asks it several times for what lies in the same files."""

from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

SEARCH_PATH = "hydra.searchpath"


class _Options(CachingConfigRepository):
    """Options that are read when they are first asked for."""

    def __init__(self, search_path: ConfigSearchPath, overridden: list[Any]) -> None:
        # Hydra's own copies the repository of its loader, and with it every schema that is stored.
        self.delegate = ConfigRepository(search_path)
        self.cache = {}
        self.overridden = overridden
        """The overrides of the search path with which it is read."""


class OptionLoader(ConfigLoaderImpl):
    """Reads an option once for all the lists of defaults that it computes, and for the configuration they lead to.

    After that, what changed in files is seen.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._options: _Options | None = None

    def content(self, path: str) -> Any:
        """Return what an option of the list of defaults that was computed last sets, without its own list.

        Args:
            path: ``GROUP/OPTION``.
        """
        found = self._options.load_config(path) if self._options else None
        return OmegaConf.to_container(found.config) if found else None

    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose: see ``ConfigLoader``."""
        try:
            return super().load_configuration(*arguments, **named)
        finally:
            # The nodes that were read are the configuration's own now.
            self._options = None

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = OverridesParser.create().parse_overrides(overrides)
        overridden = [override.value() for override in parsed if override.get_key_element() == SEARCH_PATH]
        if self._options is None or self._options.overridden != overridden:
            self._options = _Options(self.config_search_path, overridden)
            self._process_config_searchpath(config_name, parsed, self._options)
        return parsed, self._options


_create_map = defaults_list._create_interpolation_map


def _map_where_used(overrides: Any, elements: list[InputDefault], self_added: bool) -> DictConfig | None:
    """Return what interpolations in a list of defaults can name; Hydra makes it for every list, at a third of its time.

    It has no public way to be told.
    """
    needed = any(element.is_interpolation() for element in elements)
    return _create_map(overrides, elements, self_added) if needed else None


defaults_list._create_interpolation_map = _map_where_used  # type: ignore[assignment]  # None is never read
