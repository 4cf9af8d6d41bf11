"""Files of options as Hydra reads them, but for a byte-order mark, which would hide the header, and other encodings."""

import io
from pathlib import Path

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import OmegaConf

from sendnn_pipeline.config.option_yaml import read_values
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.files import read_text

HEADER_LENGTH = 512


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of options. Hydra's registry, which workers of a sweep fill anew, knows its class by this name."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises:
            ConfigError: it is not UTF-8.
            ConfigLoadError: it is not there.
        """
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {file}")
        try:
            text = read_text(file)
        except ValueError as error:
            raise ConfigError(f"{file} cannot be read: {error}") from None
        stream = io.StringIO(text)
        # By which YAML's errors name it.
        stream.name = str(file)
        header = self._get_header_dict(text[:HEADER_LENGTH])
        where = f"{self.scheme()}://{self.path}"
        values = read_values(stream)
        if not isinstance(values, dict | list | str | None):
            raise OSError(f"{file} is a {type(values).__name__}")
        config = OmegaConf.create({} if values is None else values)
        return ConfigResult(config=config, path=where, provider=self.provider, header=header)


def read_options_ourselves() -> None:
    """Have Hydra read folders through ``FileConfigSource``; it has no public way to be told."""
    Plugins.instance()
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
