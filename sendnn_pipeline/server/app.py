"""The application: routes, errors in one envelope, API key."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.server import docs, health, info, models, page, tokens
from sendnn_pipeline.server.answer import route
from sendnn_pipeline.server.errors import HANDLERS
from sendnn_pipeline.server.exchange import Exchanges
from sendnn_pipeline.server.keys import OPEN_PATHS, RequireKey
from sendnn_pipeline.server.openapi import make_document
from sendnn_pipeline.server.own_paths import check_paths
from sendnn_pipeline.server.root_path import UnderPath
from sendnn_pipeline.server.state import ServerState


def make_app(state: ServerState, endpoints: Mapping[str, Endpoint[Any]], api_keys: Sequence[str]) -> Starlette:
    """Return the application over ``state``: the routes of the run's engine, and those that every run has."""
    config = state.front.run.config
    serve = config.serve
    own = [*models.routes, *tokens.routes, *info.routes, *health.routes, *docs.routes, *page.routes]
    check_paths(endpoints, serve.root_path)
    offered = [one for one in own if serve.page or one not in page.routes]
    routes = [*(route(path, endpoint) for path, endpoint in endpoints.items()), *offered]
    middleware = [Middleware(UnderPath, prefix=serve.root_path)] if serve.root_path.strip("/") else []
    middleware.append(
        Middleware(Exchanges, metrics=state.metrics, recent=state.recent, routes=routes, log_all=config.log.access)
    )
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
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)
    app.state.server = state
    app.state.document = make_document(routes, root_path=serve.root_path, open_paths=OPEN_PATHS if api_keys else None)
    return app
