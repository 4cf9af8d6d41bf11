"""Request bodies: bounded, JSON, of a known shape."""

import asyncio
from typing import TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request

from sendnn_pipeline.files import BOM
from sendnn_pipeline.frontend.bodies import decode_body
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.server.state import state_of

T = TypeVar("T")
LARGE_BYTES = 65_536
# In a large body.
MAX_LISTS = 16_384
BYTES_PER_VALUE = 4
QUOTE, COMMA, LIST, OBJECT = b'",[{'


async def read_body(request: Request, shape: type[T], max_body_bytes: int) -> T:
    """Read a JSON body as ``shape``.

    Raises:
        RequestError: 413 too large, 415 compressed or not JSON by its own word, 400 not JSON or not of that shape,
            naming the field.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RequestError(415, f"content type {kind} is not application/json", code="unsupported_media_type")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise RequestError(415, f"content encoding {coding} is not taken: send it plain", code="unsupported_media_type")
    body = (await _bounded(request, max_body_bytes)).removeprefix(BOM)
    if len(body) <= LARGE_BYTES:
        return decode_body(body, shape)
    # However it is made, it is decoded in one go: a thread of its own, and only so much of what is slow to build.
    aside = state_of(request).aside
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(aside, check_values, body, max_body_bytes // BYTES_PER_VALUE)
    return await loop.run_in_executor(aside, decode_body, body, shape)


async def _bounded(request: Request, max_body_bytes: int) -> bytes:
    too_large = RequestError(
        413, f"the body is larger than {max_body_bytes} bytes (serve.max_body_bytes)", code="request_too_large"
    )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_body_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise too_large
    except ClientDisconnect:
        raise RequestError(400, "the client left before the body was complete", code="client_disconnected") from None
    return bytes(body)


def check_values(body: bytes, max_values: int) -> None:
    """Count the values of a JSON body before they are built.

    Raises:
        RequestError: 400, there are more than ``max_values``, or too many lists and objects.
    """
    num_values, num_lists = body.count(b","), body.count(b"[") + body.count(b"{")
    if num_values > max_values or num_lists > MAX_LISTS:
        # Texts have such characters, too.
        num_values, num_lists = _outside_texts(body)
    for number, most, what in ((num_values, max_values, "values"), (num_lists, MAX_LISTS, "lists and objects")):
        if number > most:
            message = f"the body has {number} {what} and {most} is the most"
            raise RequestError(400, message, code="too_many_items")


def _outside_texts(body: bytes) -> tuple[int, int]:
    bare = body.replace(b"\\\\", b"  ").replace(b'\\"', b"  ") if b"\\" in body else body
    chars = np.frombuffer(bare, np.uint8)
    inside = np.bitwise_xor.accumulate((chars == QUOTE).view(np.uint8)).view(np.bool_)
    counts = np.bincount(chars[~inside], minlength=256)
    return int(counts[COMMA]), int(counts[LIST] + counts[OBJECT])
