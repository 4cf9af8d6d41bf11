"""The application: routes, errors in one envelope, API key, request ids."""

import hmac
import uuid

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sendnn_pipeline.server import health, models, rerank, tei
from sendnn_pipeline.server.endpoints import ENDPOINTS
from sendnn_pipeline.server.errors import HANDLERS, ApiError, error_response
from sendnn_pipeline.server.state import ServerState


class RequestId:
    """Echoes the client's X-Request-Id, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id on the answer, and into the scope for the log."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id") or uuid.uuid4().hex
        scope["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class RequireKey:
    """Refuses every route but the probes without the API key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app, self.expected = app, f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compare the key in constant time."""
        if scope["type"] == "http" and scope["path"] not in health.PROBES:
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self.expected):
                message = "the API key is wrong" if given else "no API key: send Authorization: Bearer KEY"
                response = error_response(ApiError(401, message, code="invalid_api_key"))
                response.headers["WWW-Authenticate"] = "Bearer"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def make_app(state: ServerState, api_key: str | None) -> Starlette:
    """Return the application over ``state``."""
    middleware = [Middleware(RequestId)]
    if api_key is not None:
        middleware.append(Middleware(RequireKey, api_key=api_key))
    routes = [
        # /rerank has a handler of its own: text-embeddings-inference's clients send something else there.
        *rerank.routes,
        *(endpoint.route(path) for path, endpoint in ENDPOINTS.items()),
        *tei.routes,
        *models.routes,
        *health.routes,
    ]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)
    app.state.server = state
    return app
