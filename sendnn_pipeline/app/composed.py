"""From overrides to a composed run: its configuration, and where its model comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.app.context import AppContext
from sendnn_pipeline.app.named import check_named
from sendnn_pipeline.app.source import NamedSource, choose_source
from sendnn_pipeline.config.aliases import settle_path, settle_renamed
from sendnn_pipeline.config.check import check_draft
from sendnn_pipeline.config.command_line import Override
from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.empty import settle_empty
from sendnn_pipeline.config.layers import LayeredConfig
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.paths import expand_path


@dataclass(frozen=True)
class ComposedRun:
    """The overrides composed, with the source of the model; the model is not read yet."""

    draft: Draft
    source: NamedSource

    def locate(self) -> Path | None:
        """Return the model's folder if it is here already."""
        return self.source.locate(self.draft.config().model, self.draft.cache_dir)

    def fetch(self) -> Path:
        """Return the model's folder, fetched if need be.

        Raises:
            ModelError: it cannot be had.
        """
        folder = self.source.fetch(self.draft.config().model, self.draft.cache_dir)
        for notice in self.source.notices:
            self.draft.note(notice)
        return folder


def compose_run(context: AppContext, overrides: Sequence[Override]) -> ComposedRun:
    """Compose ``overrides`` and choose the model's source.

    Raises:
        ConfigError: they do not compose, a value is wrong, or no source takes the model.
    """
    return find_source(context, context.compose(overrides))


def find_source(context: AppContext, layered: LayeredConfig) -> ComposedRun:
    """Choose the source of the model of a configuration that is composed already.

    Raises:
        ConfigError: a value is wrong, or no source takes the model.
    """
    draft = layered.draft
    settle_renamed(draft)
    settle_empty(draft, context.schemas.keys())
    settle_path(draft)
    for (group, name), schema in context.schemas.schemas.items():
        settle = getattr(schema, "settle", None)
        if settle is not None and name in ("", draft.choices.get(group)):
            settle(draft)
    check_draft(draft)
    check_named(context.plugins, context.tree, context.schemas, draft)
    draft.cache_dir = cache_dir_of(draft["cache_dir"], context.environ, draft.where("cache_dir"))
    source = choose_source(context.plugins, draft)
    return ComposedRun(draft, source)


def cache_dir_of(cache_dir: str | None, environ: Mapping[str, str], where: str = "") -> Path:
    """Return the folder of fetched models and compiler caches.

    Raises:
        ConfigError: there is no home folder for it, or it cannot be used.
    """
    if cache_dir:
        return expand_path(cache_dir, "cache_dir", where)
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return expand_path(f"{base}/sendnn_pipeline", "cache_dir")
    except ConfigError as error:
        raise ConfigError(error.message, hint="set cache_dir (SENDNN_PIPELINE__cache_dir) or HOME") from None
