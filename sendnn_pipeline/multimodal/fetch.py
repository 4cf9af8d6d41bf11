"""Files of pictures from where requests say they are: in the request, or at hosts and in folders that are allowed."""

import base64
import binascii
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from sendnn_pipeline.multimodal.pictures import PictureError

MAX_REDIRECTS = 3
PIECE_BYTES = 2**16
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Access:
    """What may be read, and how much of it. By default nothing but what a request brings along."""

    domains: Sequence[str] = ()
    """Hosts; one that begins with a dot stands for all below it."""
    folders: Sequence[Path] = ()
    max_bytes: int = 2**25
    seconds: float = 10.0
    """For all of a picture, redirects included."""


def fetch(url: str, access: Access) -> bytes:
    """Return the file at a URL.

    Raises:
        PictureError: it may not be read, or cannot be; the message follows the name of the field.
    """
    if is_inline(url):
        return _inline(url, access.max_bytes)
    scheme = url.partition(":")[0].lower()
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise PictureError(f"is no URL: {error}") from None
    if scheme == "file":
        return _file(parts, access)
    if scheme not in ("http", "https"):
        raise PictureError("is neither a data URL nor one of http, https or file")
    ends = time.monotonic() + access.seconds
    try:
        for _ in range(MAX_REDIRECTS + 1):
            found = _get(parts, access, ends)
            if isinstance(found, bytes):
                return found
            parts = urlsplit(urljoin(parts.geturl(), found))
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        late = isinstance(error, TimeoutError) or time.monotonic() > ends
        why = f"no answer within {access.seconds:g} s" if late else f"{type(error).__name__}: {error}"
        raise PictureError(f"cannot be fetched: {why}") from None
    raise PictureError(f"is redirected more than {MAX_REDIRECTS} times")


def is_inline(url: str) -> bool:
    """Return whether the file is in the URL itself."""
    return url[:5].lower() == "data:"


def _inline(url: str, max_bytes: int) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise PictureError("is a data URL without base64")
    if len(body) > max_bytes * 4 // 3 + 4:
        raise PictureError(f"is larger than {max_bytes:,} bytes")
    try:
        return base64.b64decode(unquote(body), validate=True)
    except (binascii.Error, ValueError):
        raise PictureError("is a data URL whose base64 is broken") from None


def _file(parts: SplitResult, access: Access) -> bytes:
    if not access.folders:
        raise PictureError("is a file, and multimodal.allowed_folders names no folder")
    try:
        # Where links lead counts, not where they stand.
        path = Path(unquote(parts.path)).resolve(strict=True)
        allowed = any(path.is_relative_to(folder.resolve()) for folder in access.folders)
        if parts.netloc not in ("", "localhost") or not allowed or not path.is_file():
            raise PictureError("is no file below a folder of multimodal.allowed_folders")
        if path.stat().st_size > access.max_bytes:
            raise PictureError(f"is larger than {access.max_bytes:,} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):
            raise
        # Whether there is such a file elsewhere is nobody's business.
        raise PictureError("is no file below a folder of multimodal.allowed_folders") from None


def _get(parts: SplitResult, access: Access, ends: float) -> bytes | str:
    """Return what a URL gives: a file, or where it is now."""
    host, scheme = (parts.hostname or "").lower(), parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise PictureError("is redirected to what is neither http nor https")
    if not any(host == one.lower() or (one.startswith(".") and host.endswith(one.lower())) for one in access.domains):
        raise PictureError(f"is at {host or 'no host'}, which is not in multimodal.allowed_domains")
    port = parts.port or (443 if scheme == "https" else 80)
    with _connect(host, port, ends) as plain:
        tls = ssl.create_default_context() if scheme == "https" else None
        wire = plain if tls is None else tls.wrap_socket(plain, server_hostname=host)
        with wire, _cut_off(wire, ends):
            return _exchange(wire, parts, access.max_bytes, ends)


def _connect(host: str, port: int, ends: float) -> socket.socket:
    """Return a connection to a host, by the first of its addresses that takes one."""
    # Connected to are the addresses that were judged: a name may have other ones a moment later.
    *others, last = _addresses(host, port)
    for address in others:
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=_left(ends) / 2)
    return socket.create_connection((last, port), timeout=_left(ends))


@contextmanager
def _cut_off(wire: socket.socket, ends: float) -> Iterator[None]:
    """End a connection when its time is over: a host that sends a byte now and then would never be late by itself."""

    def cut() -> None:
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, ends - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _exchange(wire: socket.socket, parts: SplitResult, max_bytes: int, ends: float) -> bytes | str:
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.sock = wire
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
    with closing(connection.getresponse()) as answer:
        if answer.status in REDIRECTS:
            return answer.getheader("Location") or ""
        if answer.status != http.client.OK:
            raise PictureError(f"cannot be fetched: status {answer.status}")
        data = bytearray()
        while piece := answer.read1(PIECE_BYTES):
            data += piece
            if len(data) > max_bytes:
                raise PictureError(f"is larger than {max_bytes:,} bytes")
            wire.settimeout(_left(ends))
        # What is cut off looks like an end.
        _left(ends)
        if answer.length:
            raise http.client.IncompleteRead(bytes(data), answer.length)
    return bytes(data)


def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host, none of which may be private."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise PictureError(f"is at {host}, which has no address") from None
    if not all(is_public(address) for address in found):
        raise PictureError(f"is at {host}, which has an address that is not public")
    return found


def is_public(address: str) -> bool:
    """Return whether an address is one of the Internet's: not of this machine, its networks, or a cloud's own."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None)
    return (inner or parsed).is_global and not parsed.is_multicast


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
