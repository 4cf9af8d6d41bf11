"""``GET /``: one static page over ``/info`` and ``/metrics``, and nothing from elsewhere."""

import base64
import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from sendnn_pipeline.server.api_route import ApiRoute

PATH = "/"
FILE = Path(__file__).with_name("page.html")


def _policy(html: str) -> str:
    """Allow the page's own script, its style and this server: whatever a message says, nothing else runs or loads."""
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def page(_request: Request) -> Response:
    """Return the page; it holds no facts, so it needs no API key."""
    html = FILE.read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": _policy(html),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return Response(html, media_type="text/html", headers=headers)


routes = [ApiRoute(PATH, page, answer="text/html")]
