"""``/metrics`` of one replica among several: every series says whose it is."""

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = "/metrics"
# A sample: its name, then its labels, if it has any.
SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(\{)?", re.MULTILINE)


def label_samples(text: str, replica: str) -> str:
    """Return Prometheus's text format with the label ``replica`` first in every sample."""
    label = f'replica="{replica}"'
    return SAMPLE.sub(lambda found: f"{found[1]}{{{label}{',' if found[2] else '}'}", text)


class LabelledMetrics:
    """An application whose ``/metrics`` is of one replica: whoever asks the proxy gets one or another."""

    def __init__(self, app: ASGIApp, replica: str) -> None:
        self.app, self.replica = app, replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http" or not scope["path"].endswith(PATH):
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def label(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            if start["status"] == 200:
                body[:] = label_samples(body.decode(), self.replica).encode()
                MutableHeaders(scope=start)["content-length"] = str(len(body))
            await send(start)
            await send({"type": "http.response.body", "body": bytes(body)})

        await self.app(scope, receive, label)
