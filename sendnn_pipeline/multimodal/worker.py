"""The process that encodes images, one at a time. It ends when its engine does."""

import os
import signal
import socket
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sendnn_pipeline.errors import PipelineError
from sendnn_pipeline.hooks.loading import load_plugins
from sendnn_pipeline.machine.environ import process_environment
from sendnn_pipeline.models.facts import read_model_facts
from sendnn_pipeline.multimodal.adapters import adapter_registry
from sendnn_pipeline.multimodal.desk import why_not
from sendnn_pipeline.multimodal.devices import device_registry
from sendnn_pipeline.multimodal.wire import (
    Cancel,
    Dropped,
    Encode,
    Encoded,
    EncoderSpec,
    Failed,
    Opened,
    Unusable,
    Wire,
)

if TYPE_CHECKING:
    from sendnn_pipeline.multimodal.encoder import VisionEncoder

# Beside an engine on the same CPUs, which then gets ten times as much of a CPU that both want.
NICENESS = 10


class DroppedError(Exception):
    """Nobody wants the picture any more that is being encoded."""


class Pictures:
    """Those that wait, and the one that is being encoded; taken by one thread, put and cancelled by another."""

    def __init__(self) -> None:
        self._files: OrderedDict[bytes, int] = OrderedDict()
        self._news = threading.Condition()
        self._taken = b""
        self._is_dropped = False

    def put(self, digest: bytes, memory: int) -> None:
        """Queue a picture, whose file is in memory."""
        with self._news:
            self._files[digest] = memory
            self._news.notify()

    def cancel(self, digest: bytes) -> bool:
        """Forget a picture, and return whether it waited: of such a one nothing else will be told."""
        with self._news:
            memory = self._files.pop(digest, None)
            self._is_dropped = self._is_dropped or digest == self._taken
        if memory is not None:
            os.close(memory)
        return memory is not None

    def take(self) -> tuple[bytes, int]:
        """Wait for a picture."""
        with self._news:
            self._news.wait_for(lambda: bool(self._files))
            self._taken, memory = self._files.popitem(last=False)
            self._is_dropped = False
            return self._taken, memory

    def check(self, *_: object) -> None:
        """Leave the picture that was taken last, if it was cancelled since.

        Raises:
            DroppedError: it was.
        """
        if self._is_dropped:
            raise DroppedError


def listen(wire: Wire, pictures: Pictures) -> None:
    """Take what the engine says; once it is gone, this process is, whatever it computes."""
    while (received := wire.receive()) is not None:
        message, memory = received
        if isinstance(message, Encode) and memory is not None:
            pictures.put(message.digest, memory)
        elif isinstance(message, Cancel) and pictures.cancel(message.digest):
            with suppress(OSError):
                wire.send(Dropped(message.digest))
    os._exit(0)


def open_encoder(spec: EncoderSpec) -> "VisionEncoder":
    """Load what only images need, and place it on its device.

    Raises:
        PipelineError: it cannot be loaded, or the device cannot be used.
    """
    plugins, model = load_plugins(process_environment()), read_model_facts(Path(spec.folder))
    device, adapter = device_registry(plugins).create(spec.device), adapter_registry(plugins).create(model.model_type)
    from sendnn_pipeline.engines.threads import set_torch_threads
    from sendnn_pipeline.multimodal.encoder import open_encoder as open_here

    set_torch_threads(spec.threads)
    return open_here(model, adapter, device, dtype=spec.dtype, out=spec.out)


def encode(wire: Wire, encoder: "VisionEncoder", digest: bytes, memory: int) -> None:
    """Encode a picture, and send its rows or why there are none."""
    from sendnn_pipeline.multimodal.shared_rows import memory_name, read_bytes, write_rows

    try:
        rows = encoder.encode(read_bytes(memory))
    except DroppedError:
        wire.send(Dropped(digest))
        return
    except Exception as error:  # whatever a vision model can do; the picture fails alone
        wire.send(Failed(digest, why_not(error)))
        return
    shared = write_rows(memory_name(digest), rows)
    try:
        wire.send(Encoded(digest, list(rows.shape), str(rows.dtype).removeprefix("torch.")), shared)
    finally:
        os.close(shared)


def main() -> None:
    """Encode what comes over the wire, whose descriptor and what is to be opened are the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # What a terminal or a supervisor sends to the whole group is the engine's.
        signal.signal(number, signal.SIG_IGN)
    wire, pictures = Wire(socket.socket(fileno=int(sys.argv[1]))), Pictures()
    threading.Thread(target=listen, args=(wire, pictures), name="listen", daemon=True).start()
    try:
        encoder = open_encoder(msgspec.json.decode(sys.argv[2], type=EncoderSpec))
    except PipelineError as error:
        wire.send(Unusable(error.message, error.hint, error.exit_code))
        return
    os.nice(NICENESS)
    for module in encoder.vision.modules():
        # Between any two layers, as a picture of many tiles takes seconds and the next client waits for this process.
        module.register_forward_pre_hook(pictures.check)
    wire.send(Opened())
    while True:
        encode(wire, encoder, *pictures.take())


if __name__ == "__main__":
    main()
