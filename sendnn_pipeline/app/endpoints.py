"""What can be asked of an engine, by path."""

from typing import Any

from sendnn_pipeline.errors import PluginError
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.hooks.manager import Plugins


def collect_endpoints(plugins: Plugins, engine: str) -> dict[str, Endpoint[Any]]:
    """Return the endpoints that plugins register for an engine.

    Raises:
        PluginError: two register one path, or one registers something else.
    """
    found: dict[str, tuple[str, Endpoint[Any]]] = {}

    def registrar(owner: str) -> Any:
        for path in [path for path, (plugin, _) in found.items() if plugin == owner]:
            del found[path]

        def register(name: str, path: str, endpoint: Endpoint[Any]) -> None:
            if name != engine:
                return
            if not isinstance(endpoint, Endpoint):
                hint = "see Endpoint in frontend/endpoint.py"
                raise PluginError(f"path {path} of engine {engine} by {owner} is no endpoint: {endpoint!r}", hint=hint)
            if path in found:
                raise PluginError(
                    f"path {path} of engine {engine} is registered by {found[path][0]} and {owner}",
                    hint="keep one out with SENDNN_PIPELINE_PLUGINS_DENY",
                )
            found[path] = (owner, endpoint)

        return register

    plugins.collect("register_endpoints", register=registrar)
    return {path: endpoint for path, (_, endpoint) in found.items()}
