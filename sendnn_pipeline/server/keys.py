"""Who may ask: whoever has one of the API keys."""

import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server import docs, page
from sendnn_pipeline.server.errors import write_error
from sendnn_pipeline.server.health import PROBES

# The probes, and pages that hold no facts.
OPEN_PATHS = (*PROBES, docs.PAGE, page.PATH)


class RequireKey:
    """Refuses every other route without one of the API keys."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self.app, self.keys = app, [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request with 401, or let it through."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(scope):
            await self.app(scope, receive, send)
            return
        sent = _authorization(scope)
        message = "the API key is wrong" if sent else "no API key: send Authorization: Bearer KEY"
        response = write_error(scope, RequestError(401, message, code="invalid_api_key"))
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        """Compare with every key, each in constant time; the scheme has no case."""
        scheme, _, key = _authorization(scope).partition(b" ")
        found = [hmac.compare_digest(key.strip(), known) for known in self.keys]
        return scheme.lower() == b"bearer" and any(found)


def _authorization(scope: Scope) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == b"authorization"), b"")
