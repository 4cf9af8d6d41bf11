"""Routes below a path, for a proxy that hands out several servers by path."""

from starlette.types import ASGIApp, Receive, Scope, Send


class UnderPath:
    """Takes a prefix off the paths that have it: some proxies leave it on, others and the probes do without."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self.prefix = app, f"/{prefix.strip('/')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on as if it came without the prefix."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{self.prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self.prefix) or "/"}
        await self.app(scope, receive, send)
