"""What can be asked of an engine, by path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sendnn_pipeline.errors import PluginError, nearest
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.hooks.manager import PluginProblem, Plugins
from sendnn_pipeline.hooks.timeout import blame


@dataclass(frozen=True)
class OwnedEndpoint:
    """A path that a plugin registered for an engine."""

    owner: str
    engine: str
    path: str
    endpoint: Endpoint[Any]

    def __str__(self) -> str:
        return f"path {self.path} of engine {self.engine}"


def collect_endpoints(plugins: Plugins, engine: str) -> dict[str, Endpoint[Any]]:
    """Return the endpoints that plugins register for an engine.

    Raises:
        PluginError: two register one path, or one registers something else.
    """
    found: dict[str, OwnedEndpoint] = {}
    for offer in _offers(plugins):
        if offer.engine != engine:
            continue
        if not isinstance(offer.endpoint, Endpoint):
            hint = "see Endpoint in frontend/endpoint.py"
            raise PluginError(f"{offer} by {offer.owner} is no endpoint: {offer.endpoint!r}", hint=hint)
        if not isinstance(offer.path, str) or not offer.path.startswith("/"):
            raise PluginError(f"{offer} by {offer.owner} is no path", hint="a path begins with a slash")
        _check_types(offer)
        if offer.path in found:
            raise PluginError(
                f"{offer} is registered by {found[offer.path].owner} and {offer.owner}",
                hint="keep one out with SENDNN_PIPELINE_PLUGINS_DENY",
            )
        found[offer.path] = offer
    return {path: offer.endpoint for path, offer in found.items()}


def find_homeless(plugins: Plugins) -> list[PluginProblem]:
    """Return a problem for each path of an engine that there is not, which no run can offer."""
    engines = plugins.registry("register_engines", "engine").entries
    return [
        PluginProblem(offer.owner, f"{offer}: no plugin provides that engine; {nearest(str(offer.engine), engines)}")
        for offer in _offers(plugins)
        if offer.engine not in engines
    ]


def _check_types(offer: OwnedEndpoint) -> None:
    """Refuse types that requests and answers cannot be read and written by, or that no document can describe."""
    endpoint = offer.endpoint
    for part, kinds in (("body", [endpoint.body]), ("answer", [endpoint.answer]), ("errors", list(endpoint.errors))):
        with blame(f"{part} of {offer} by {offer.owner}"):
            msgspec.json.schema_components(kinds)


def _offers(plugins: Plugins) -> Sequence[OwnedEndpoint]:
    by_owner: dict[str, list[OwnedEndpoint]] = {}

    def registrar(owner: str) -> Callable[[str, str, Endpoint[Any]], None]:
        # Called again, a plugin registers anew.
        by_owner[owner] = offers = []
        return lambda engine, path, endpoint: offers.append(OwnedEndpoint(owner, engine, path, endpoint))

    plugins.collect("register_endpoints", register=registrar)
    return [offer for offers in by_owner.values() for offer in offers]
