"""Which model source takes ``model.path``; one of a plugin that fails is named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sendnn_pipeline.config.draft import Draft
from sendnn_pipeline.config.schema import ModelConfig
from sendnn_pipeline.errors import ConfigError, PluginError
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.hooks.registry import Registry
from sendnn_pipeline.hooks.timeout import blame
from sendnn_pipeline.known.entry import AUTO
from sendnn_pipeline.models.sources import ModelSource


@dataclass(frozen=True)
class NamedSource:
    """The source that was chosen."""

    name: str
    what: str
    """The source and its plugin, for errors."""
    source: ModelSource

    def locate(self, model: ModelConfig, cache_dir: Path) -> Path | None:
        """Return the model's folder if it is here already.

        Raises:
            PluginError: the source failed, or returned something else.
        """
        with blame(self.what):
            found = self.source.locate(model, cache_dir)
        return None if found is None else self._checked(found)

    def fetch(self, model: ModelConfig, cache_dir: Path) -> Path:
        """Return the model's folder, fetched if need be.

        Raises:
            ModelError: it cannot be had.
            PluginError: as above.
        """
        with blame(self.what):
            found = self.source.fetch(model, cache_dir)
        return self._checked(found)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user has to know of what was fetched, where the source has any."""
        return tuple(map(str, getattr(self.source, "notices", ())))

    def _checked(self, found: object) -> Path:
        if not isinstance(found, Path):
            raise PluginError(f"{self.what} returned {found!r} and not the Path of a folder")
        return found


def choose_source(plugins: Plugins, draft: Draft) -> NamedSource:
    """Return the source that ``model.source`` names, or the only one that claims ``model.path``.

    Raises:
        ConfigError: there is no such source, or not exactly one claims the path.
        PluginError: the named source cannot be made.
    """
    sources: Registry[ModelSource] = plugins.registry("register_model_sources", "model source")
    name, path = draft["model.source"], draft["model.path"]
    if name != AUTO:
        source = sources.create(name, where=draft.where("model.source"), missing=plugins.missing())
        return NamedSource(name, sources.describe(name), source)
    claims = _claims(plugins, sources, path)
    if len(claims) == 1:
        return claims[0]
    names = sorted(claim.name for claim in claims)
    what = "is claimed by " + " and ".join(names) if names else "is not a folder, hub id or package"
    hint = "choose one with model.source=" if names else "a package is written name==version"
    missing = "" if names else plugins.missing()
    raise ConfigError(
        f"model.path={path} {what}",
        where=draft.where("model.path"),
        hint=f"{hint}; {missing}" if missing else hint,
    )


def _claims(plugins: Plugins, sources: Registry[ModelSource], path: str) -> list[NamedSource]:
    """Ask every source; the run did not choose the one that fails, so the others go on."""
    found = []
    for name, entry in sources.entries.items():

        def claiming(
            factory: Callable[[], ModelSource] = entry.factory, what: str = sources.describe(name)
        ) -> ModelSource | None:
            source = factory()
            claimed = source.claims(path)
            if claimed is not None and not isinstance(claimed, bool):
                raise PluginError(f"{what} returned {claimed!r} from claims, which returns True or False")
            return source if claimed else None

        source = plugins.attempt(entry.owner, f"model source {name}", claiming)
        if source is not None:
            found.append(NamedSource(name, sources.describe(name), source))
    return found
