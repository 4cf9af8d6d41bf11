"""Where lines come from: a file, which can be read again, or a pipe, which cannot."""

import asyncio
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sendnn_pipeline.batch.lines import Line, read_lines
from sendnn_pipeline.errors import ConfigError, ServeError
from sendnn_pipeline.files import HEAD_BYTES, check_head
from sendnn_pipeline.paths import expand_path

T = TypeVar("T")
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """The input of a batch."""

    name: str
    """As the user wrote it."""
    file: Path
    size: int | None = None
    """Bytes; None where it is a pipe."""
    changed: str = ""
    """When it was written last."""

    @property
    def is_pipe(self) -> bool:
        """Whether it can be read only once."""
        return self.size is None

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from another input, or from itself before it was edited."""
        if self.is_pipe:
            return {"serve.input": self.name}
        return {"serve.input": str(self.file), "bytes": self.size, "changed": self.changed}

    async def chunks(self, offset: int, number: int, size: int) -> AsyncIterator[list[Line]]:
        """Yield lines, ``size`` at a time.

        Args:
            offset: bytes to skip.
            number: of the line that begins there.
            size: lines of a chunk.

        Raises:
            ServeError: it cannot be read any more.
        """
        try:
            # Opening waits, too: for somebody who writes into a pipe.
            stream = await in_thread(lambda: self.file.open("rb"))
            if offset:
                stream.seek(offset)
            lines = read_lines(stream, offset, number)
            while chunk := await in_thread(lambda: list(islice(lines, size))):
                yield chunk
            stream.close()
        except (OSError, ValueError) as error:
            raise ServeError(f"serve.input={self.name} cannot be read: {_reason(error)}") from None


def open_source(path: str | None) -> Source:
    """Return the input, which is not opened yet if that would wait.

    Raises:
        ConfigError: none is named, it cannot be read, or it is not UTF-8.
    """
    if not path:
        raise ConfigError("serve.input is not set", hint="name a JSONL file of texts with serve.input=FILE")
    file = expand_path("/dev/stdin" if path == STANDARD_INPUT else path, "serve.input")
    try:
        facts = file.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(0, "it is a folder")
        if not stat.S_ISREG(facts.st_mode):
            return Source(path, file)
        file = file.resolve(strict=True)
        with file.open("rb") as stream:
            check_head(stream.read(HEAD_BYTES))
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise ConfigError(f"serve.input={path} cannot be read: {reason}", hint="name another file") from None
    return Source(path, file, facts.st_size, datetime.fromtimestamp(facts.st_mtime).isoformat())


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


async def in_thread(call: Callable[[], T]) -> T:
    """Call in a thread that ends with the process: the pool of the event loop waits for one that waits for a pipe."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as problem:
            error = problem
        with suppress(RuntimeError):  # the loop is over, and nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="input", daemon=True).start()
    return await done
