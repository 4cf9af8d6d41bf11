"""Between an engine and the process that encodes its images: small messages, each with shared memory beside it or none.

No torch.
"""

import socket
from dataclasses import dataclass

import msgspec

MESSAGE_BYTES = 2**16


class EncoderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder's process is started with."""

    folder: str
    """Of the model."""
    device: str
    dtype: str
    """Of the vision part."""
    out: str
    """The dtype of the text model."""
    threads: int
    """Of the process; 0 leaves them as they are."""


class Encode(msgspec.Struct, tag=True, frozen=True):
    """Encode a picture, whose file is in the memory beside this."""

    digest: bytes


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Forget a picture: one that waits at once, and one that is being encoded at its next layer."""

    digest: bytes


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The encoder is ready."""


class Unusable(msgspec.Struct, tag=True, frozen=True):
    """There is no encoder, and the process ends."""

    message: str
    hint: str
    exit_code: int


class Encoded(msgspec.Struct, tag=True, frozen=True):
    """The rows of a picture, which are in the memory beside this."""

    digest: bytes
    shape: list[int]
    dtype: str


class Dropped(msgspec.Struct, tag=True, frozen=True):
    """A picture waited or was being encoded when it was cancelled, and is forgotten."""

    digest: bytes


class Failed(msgspec.Struct, tag=True, frozen=True):
    """A picture could not be encoded."""

    digest: bytes
    message: str


ToEncoder = Encode | Cancel
FromEncoder = Opened | Unusable | Encoded | Dropped | Failed
ENCODER, DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(ToEncoder | FromEncoder)


@dataclass(frozen=True)
class Wire:
    """One end. A message arrives whole or not at all."""

    end: socket.socket

    def send(self, message: ToEncoder | FromEncoder, memory: int | None = None) -> None:
        """Send a message, with a descriptor of memory that the other process then has, too.

        Raises:
            OSError: the other end is gone.
        """
        socket.send_fds(self.end, [ENCODER.encode(message)], [] if memory is None else [memory])

    def receive(self) -> tuple[ToEncoder | FromEncoder, int | None] | None:
        """Wait for a message and its memory; None once the other end is gone."""
        try:
            frame, memories, _, _ = socket.recv_fds(self.end, MESSAGE_BYTES, 1)
        except OSError:
            return None
        return (DECODER.decode(frame), memories[0] if memories else None) if frame else None


def new_wire() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a wire; each is closed by whoever has it."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
