"""Request bodies: bounded, JSON, of a known shape."""

from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from sendnn_pipeline.frontend.bodies import decode_body
from sendnn_pipeline.frontend.errors import RequestError

T = TypeVar("T")


async def read_body(request: Request, shape: type[T], max_body_bytes: int) -> T:
    """Read a JSON body as ``shape``.

    Raises:
        RequestError: 413 too large, 415 not JSON by its own word, 400 not JSON or not of that shape, naming the field.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RequestError(415, f"content type {kind} is not application/json", code="unsupported_media_type")
    return decode_body(await _bounded(request, max_body_bytes), shape)


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
