"""Paths that every run has, whatever its engine: what may not be in their way."""

from collections.abc import Iterable

from sendnn_pipeline.errors import PluginError, ServeError

ASKED = ("/tokenize", "/detokenize", "/decode", "/ping")
"""By POST, as endpoints are."""
READ = ("/v1/models", "/version", "/info", "/metrics", "/live", "/ready", "/startup", "/health", "/ping", "/docs")


def check_paths(endpoints: Iterable[str], root_path: str) -> None:
    """Refuse an endpoint at a path of every run, and a root path that takes the beginning off routes.

    Raises:
        PluginError: an endpoint would never be asked.
        ServeError: requests that come without the root path would lose a part of their own.
    """
    paths = list(endpoints)
    taken = next((path for path in paths if path in ASKED), None)
    if taken is not None:
        hint = "register another path; `python -m sendnn_pipeline plugins` lists who registers endpoints"
        raise PluginError(f"path {taken}, which a plugin registers, is the server's own", hint=hint)
    prefix = f"/{root_path.strip('/')}"
    begun = next((path for path in (*paths, *ASKED, *READ) if f"{path}/".startswith(f"{prefix}/")), None)
    if prefix != "/" and begun is not None:
        raise ServeError(
            f"serve.root_path={root_path} is what the route {begun} begins with",
            hint="choose another path, or leave it out where the proxy takes nothing off",
        )
