"""HTTP/1.1 with one client: heads are bounded, and so is what comes without being asked for."""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sendnn_pipeline.frontend.errors import RequestError, openai_error
from sendnn_pipeline.server.health import PROBES
from sendnn_pipeline.server.room import Room, Wait

MAX_URL_BYTES = 16_384
MAX_HEADERS = 100
# Of a head that is not complete, and of a body behind its answer.
MAX_UNASKED_BYTES = 65_536
END_OF_HEAD = b"\r\n\r\n"


class RefusedError(Exception):
    """Stops the parser in the middle of a head."""


class Connection(HttpToolsProtocol):
    """One client.

    Args:
        room: shared by all connections.
        parts: of uvicorn.
    """

    def __init__(self, *, room: Room, **parts: Any) -> None:
        super().__init__(**parts)
        self.room = room
        self.only_probes = False
        self.num_unasked = 0
        self.refusal: RequestError | None = None
        self.is_offered = False
        """Whether the request offers another protocol."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a place among the others, or one of those that are kept for probes."""
        super().connection_made(transport)
        self.only_probes = not self.room.enter(self, self.connections)  # type: ignore[arg-type]  # of this class, all

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to no request that is being answered."""
        if len(data) > MAX_UNASKED_BYTES and self.is_between and data.find(END_OF_HEAD, 0, MAX_UNASKED_BYTES) < 0:
            self.refuse(_too_large("headers", MAX_UNASKED_BYTES))
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            self._read_on(data[offer.args[0] :])
            return
        except HttpParserError:
            self.refuse(self.refusal or RequestError(400, "the request is not HTTP/1.1", code="invalid_http"))
            return
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and not cycle.response_complete:
            self.num_unasked = 0
            return
        self.num_unasked += len(data)
        if self.num_unasked > MAX_UNASKED_BYTES and not self.transport.is_closing():
            self.refuse(_too_large("headers", MAX_UNASKED_BYTES))

    def _read_on(self, rest: bytes) -> None:
        """Read a request that also offers another protocol, which the parser takes for its end, without the offer."""
        headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (self.parser.get_method(), self.url, b"".join(headers))
        self.parser = HttpRequestParser(self)
        # As uvicorn has it.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(head + rest)

    def on_headers_complete(self) -> None:
        """Refuse a head that is too large, and all but the probes where no room is left."""
        if len(self.url) > MAX_URL_BYTES:
            self.refusal = RequestError(414, f"the URL has more than {MAX_URL_BYTES} bytes", code="url_too_long")
        elif len(self.headers) > MAX_HEADERS:
            self.refusal = _too_large("headers", MAX_HEADERS, "")
        elif self.only_probes and self.room.is_full(len(self.connections)) and not self._asks_for_a_probe():
            message = f"{self.room.size} connections are open, as many as there may be (serve.max_connections)"
            self.refusal = RequestError(503, message, code="server_overloaded", retry_after_seconds=1)
        elif self.parser.get_method() == b"CONNECT":
            self.refusal = RequestError(400, "this server is not a proxy", code="invalid_http")
        if self.refusal is not None:
            raise RefusedError
        self.is_offered = self.parser.should_upgrade()
        if not self.is_offered:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request, unless it is read once more."""
        if not self.is_offered:
            super().on_message_complete()

    def _asks_for_a_probe(self) -> bool:
        path = self.url.partition(b"?")[0].decode("latin-1")
        # A proxy may leave the root path before it.
        return path in PROBES or f"/{path.rpartition('/')[2]}" in PROBES

    def refuse(self, error: RequestError) -> None:
        """Answer outside of any request, and close; behind requests that are not answered yet, wait for those."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()
                return
            if not cycle.more_body:
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
        elif cycle is not None and cycle.more_body:
            # It has its answer.
            self.transport.close()
            return
        self.transport.write(_written(error))
        self.transport.close()

    @property
    def is_between(self) -> bool:
        """Whether the next bytes belong to a head."""
        cycle = self.cycle
        return cycle is None or cycle.scope is not self.scope or (cycle.response_complete and not cycle.more_body)

    @property
    def is_silent(self) -> bool:
        """Whether it never made a request."""
        return self.cycle is None

    @property
    def is_idle(self) -> bool:
        """Whether all of its requests are answered."""
        return self.cycle is None or (self.is_between and self.cycle.response_complete)

    @property
    def is_leaving(self) -> bool:
        """Whether it is being closed."""
        return self.transport.is_closing()

    def leave(self) -> None:
        """Close at once."""
        self.transport.abort()

    def waits(self) -> tuple[Wait, object, int] | None:
        """Return what the client keeps the server waiting for: see ``room.Client``."""
        cycle, num_unsent = self.cycle, self.transport.get_write_buffer_size()
        if num_unsent:
            # A whole answer is to be read within the time, however slowly; of a stream something is.
            whole = cycle is None or cycle.response_complete or self.transport.is_closing()
            return Wait.reading, cycle, 0 if whole else num_unsent
        if self.is_between:
            # Between requests uvicorn has a timer of its own, until the next byte comes.
            return None if self.timeout_keep_alive_task is not None else (Wait.head, self.scope, 0)
        return (Wait.body, self.scope, 0) if cycle.more_body else None

    def give_up(self, wait: Wait, seconds: float) -> None:
        """End a wait that took so long."""
        if wait is Wait.reading:
            self.transport.abort()
        elif wait is Wait.head and not self.num_unasked:
            self.transport.close()
        else:
            key = f"serve.{wait.value}_timeout_seconds"
            message = f"the {wait.value} of the request was not there after {seconds:g} s ({key})"
            self.refuse(RequestError(408, message, code="request_timeout"))


def _too_large(what: str, most: int, unit: str = " bytes of") -> RequestError:
    return RequestError(431, f"the request has more than {most}{unit} {what}", code="headers_too_large")


def _written(error: RequestError) -> bytes:
    status, content = openai_error(error)
    body = orjson.dumps(content)
    retry = f"Retry-After: {error.retry_after_seconds}\r\n" if error.retry_after_seconds is not None else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
    )
    return head.encode() + body
