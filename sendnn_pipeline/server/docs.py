"""Routes about the routes: the OpenAPI document, and a page that shows it without fetching anything from elsewhere."""

from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from sendnn_pipeline.server.api_route import ApiRoute

PAGE = "/docs"


async def document(request: Request) -> JSONResponse:
    """Return what can be asked here, as OpenAPI 3.1."""
    content: Any = request.app.state.document
    return JSONResponse(content)


async def page(_request: Request) -> HTMLResponse:
    """Show what can be asked here, and ask it."""
    return HTMLResponse(files("sendnn_pipeline.server").joinpath("docs.html").read_text(encoding="utf-8"))


routes = [
    ApiRoute("/openapi.json", document, answer=dict[str, Any]),
    ApiRoute(PAGE, page, answer="text/html"),
]
