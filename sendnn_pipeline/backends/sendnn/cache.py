"""The cache that torch_sendnn keeps: its folder, what it depends on, and catalogs of the plugin for vLLM. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sendnn_pipeline.backends.base import Bounds
from sendnn_pipeline.backends.config import SendnnConfig
from sendnn_pipeline.backends.library_cache import LibraryCache, OtherEntry
from sendnn_pipeline.backends.sendnn.catalog import read_catalog
from sendnn_pipeline.backends.sendnn.environment import CACHE_DIR, CACHE_ENABLE, FLEX_DEVICE, device_variables


class SendnnCache(LibraryCache):
    """Of one run's options."""

    def __init__(self, options: SendnnConfig) -> None:
        self.options = options

    def folder(self, environ: Mapping[str, str], default: Path) -> Path | None:
        """Return ``TORCH_SENDNN_CACHE_DIR``, else the default; None where ``TORCH_SENDNN_CACHE_ENABLE`` is not 1."""
        if environ.get(CACHE_ENABLE, "1") != "1":
            return None
        return Path(environ.get(CACHE_DIR) or default)

    def variables(self, folder: Path) -> dict[str, str]:
        """Return both variables."""
        return {CACHE_ENABLE: "1", CACHE_DIR: str(folder)}

    def fields(self, bounds: Bounds, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the device's variables, the same with a card and without, and the number of KV blocks."""
        sizes = replace(bounds, precompiled=False)
        found = device_variables(sizes, self.options, environ, compiles_only=False)
        found.pop(FLEX_DEVICE, None)
        return {**dict(sorted(found.items())), "num_blocks": str(bounds.num_blocks)}

    def others(self, folder: Path, bounds: Bounds, model: str) -> Sequence[OtherEntry]:
        """Return the entries of the plugin's catalog, or of its log of one compilation."""
        return read_catalog(folder, self.fields(bounds, {}), bounds, model)
