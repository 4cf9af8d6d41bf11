"""What every exchange has, whatever its route: an id, a count by route and status, a line in the log, an end."""

import logging
import time
import uuid
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sendnn_pipeline.observe.logs import request_id
from sendnn_pipeline.observe.metrics import Metrics
from sendnn_pipeline.server.errors import error_of, on_crash
from sendnn_pipeline.server.health import PROBES
from sendnn_pipeline.server.recent import RecentErrors

# The route of what no route takes: paths are the client's to choose, and labels must not be.
NO_ROUTE = "other"
# Of a client's request id: room for what tracing systems write.
MAX_ID_LENGTH = 256
log = logging.getLogger(__name__)


class Exchanges:
    """Echoes the client's X-Request-Id, or makes one; counts and logs how each request ended.

    Args:
        app: what answers.
        metrics: of the run.
        recent: takes what was refused or failed, for the page.
        routes: every route there is.
        log_all: log answers that are neither refused nor failed, too.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, recent: RecentErrors, routes: Sequence[Route], log_all: bool
    ) -> None:
        self._app, self._metrics, self._recent = app, metrics, recent
        self._routes, self._log_all = routes, log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what raises is answered with 500, and its traceback is logged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        scope["request_id"] = Headers(scope=scope).get("x-request-id", "")[:MAX_ID_LENGTH] or uuid.uuid4().hex
        request_id.set(scope["request_id"])

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = scope["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if status:
                # Too late for another answer: the server closes the connection.
                raise
            answer = await on_crash(Request(scope), error)
            await answer(scope, receive, send_with_id)
        finally:
            if status:
                self._account(scope, status, time.monotonic() - began)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route = next((route.path for route in self._routes if route.path_regex.match(scope["path"])), NO_ROUTE)
        self._metrics.answered(route, status)
        error = error_of(scope)
        failed = status >= 400 or error is not None
        if error is not None:
            self._recent.add(scope["path"], error)
        if scope["path"] in PROBES or not (failed or self._log_all):
            return
        level = logging.INFO if status < 500 else logging.ERROR if status == 500 else logging.WARNING
        reason = {"code": error.code, "error": error.message} if error else {}
        reason |= {"detail": error.detail} if error and error.detail else {}
        fields = {"route": route, "status": status, **reason, "seconds": round(seconds, 6)}
        log.log(level, "%s %s", scope["method"], scope["path"], extra={"fields": fields})
