"""The application: routes, errors in one envelope, API key."""

import hmac
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server import health, info, models
from sendnn_pipeline.server.answer import route
from sendnn_pipeline.server.errors import HANDLERS, write_error
from sendnn_pipeline.server.exchange import Exchanges
from sendnn_pipeline.server.state import ServerState


class RequireKey:
    """Refuses every route but the probes without the API key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app, self.expected = app, f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compare the key in constant time."""
        if scope["type"] == "http" and scope["path"] not in health.PROBES:
            sent = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(sent, self.expected):
                message = "the API key is wrong" if sent else "no API key: send Authorization: Bearer KEY"
                response = write_error(scope, RequestError(401, message, code="invalid_api_key"))
                response.headers["WWW-Authenticate"] = "Bearer"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def make_app(state: ServerState, endpoints: Mapping[str, Endpoint[Any]], api_key: str | None) -> Starlette:
    """Return the application over ``state``: the routes of the run's engine, and those that every run has."""
    routes = [
        *(route(path, endpoint) for path, endpoint in endpoints.items()),
        *models.routes,
        *info.routes,
        *health.routes,
    ]
    log_all = state.front.run.config.log.access
    middleware = [Middleware(Exchanges, metrics=state.metrics, routes=routes, log_all=log_all)]
    if api_key is not None:
        middleware.append(Middleware(RequireKey, api_key=api_key))
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)
    app.state.server = state
    return app
