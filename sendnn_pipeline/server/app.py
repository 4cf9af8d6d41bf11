"""The application: routes, errors in one envelope, API key, request ids."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.server import docs, health, info, models, page, tokens
from sendnn_pipeline.server.answer import route
from sendnn_pipeline.server.errors import HANDLERS
from sendnn_pipeline.server.keys import OPEN_PATHS, RequireKey
from sendnn_pipeline.server.openapi import make_document
from sendnn_pipeline.server.root_path import UnderPath
from sendnn_pipeline.server.state import ServerState

# Of a client's request id: room for what tracing systems write.
MAX_ID_LENGTH = 256


class RequestId:
    """Echoes the client's X-Request-Id, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id on the answer, and into the scope for the log."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id", "")[:MAX_ID_LENGTH] or uuid.uuid4().hex
        scope["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


def make_app(state: ServerState, endpoints: Mapping[str, Endpoint[Any]], api_keys: Sequence[str]) -> Starlette:
    """Return the application over ``state``: the routes of the run's engine, and those that every run has."""
    serve = state.front.run.config.serve
    middleware = [Middleware(RequestId)]
    if serve.root_path.strip("/"):
        middleware.append(Middleware(UnderPath, prefix=serve.root_path))
    if serve.allowed_origins:
        # Before the key: browsers ask without one what they may send.
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=serve.allowed_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id", "Retry-After"],
            )
        )
    if api_keys:
        middleware.append(Middleware(RequireKey, api_keys=api_keys))
    routes = [
        *(route(path, endpoint) for path, endpoint in endpoints.items()),
        *models.routes,
        *tokens.routes,
        *info.routes,
        *health.routes,
        *docs.routes,
        *(page.routes if serve.page else ()),
    ]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)
    app.state.server = state
    app.state.document = make_document(routes, root_path=serve.root_path, open_paths=OPEN_PATHS if api_keys else None)
    return app
