"""The end of a replica: Ray, when the requests are done, ends the application as any ASGI server does."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class EndsWithServer:
    """An application whose shutdown calls ``end``."""

    def __init__(self, app: ASGIApp, end: Callable[[], Awaitable[None]]) -> None:
        self.app, self.end = app, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or follow the server's life."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.end()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})
