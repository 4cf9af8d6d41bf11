"""Where answers go: in the order of the lines, with a record of how far they are, so that a killed run goes on."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from sendnn_pipeline.batch.lines import Line
from sendnn_pipeline.batch.progress import Progress, beside
from sendnn_pipeline.errors import ConfigError, ServeError


@dataclass(frozen=True)
class Answer:
    """What a line is answered with, or why it is not."""

    line: Line
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields added to an object of the user's own form."""
    content: Any = None
    """What the route that an OpenAI batch file's line names answers, a refusal included."""
    status: int = 200
    """Of that answer over HTTP."""
    rows: npt.NDArray[np.float32] | None = None
    """For an array."""
    problem: str = ""
    num_tokens: int = 0


@dataclass
class Sink:
    """Appends to an output file and a side file of bad lines."""

    output: Path
    row_size: int
    """Numbers of each row of an array."""
    progress: Progress
    go_on: str
    """What to do once it was stopped."""
    first_problem: str = field(default="", init=False)
    """Of the first bad line that this run met, as the end of a sentence."""

    @property
    def side(self) -> Path:
        """The file of bad lines."""
        return beside(self.output, ".errors.jsonl")

    @property
    def is_array(self) -> bool:
        """Whether the output is a numpy array, one row a line, rows of bad lines not a number."""
        return self.output.suffix == ".npy"

    def open(self) -> None:
        """Cut both files to what the record vouches for and open them.

        Raises:
            ConfigError: they cannot be written.
        """
        try:
            # First the record: a run that ends before its first chunk can be given again, too.
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.progress.write(self.output)
            self._out = _open_at(self.output, self.progress.output_bytes)
            self._bad = _open_at(self.side, self.progress.errors_bytes)
        except OSError as error:
            raise ConfigError(f"serve.output={self.output} cannot be written: {error.strerror}") from None
        if self.is_array and not self.progress.output_bytes:
            self._out.write(_npy_header(0, self.row_size))

    def write(self, answers: Sequence[Answer]) -> None:
        """Append a chunk of lines, each with its answer or its problem, and record that it is whole.

        Raises:
            ServeError: the disk is full, or fails.
        """
        with self._on_disk():
            self._write(answers)

    def _write(self, answers: Sequence[Answer]) -> None:
        num_bad = num_rows = 0
        for answer in answers:
            line = answer.line
            if answer.problem:
                num_bad += 1
                self.first_problem = self.first_problem or f": in line {line.number}, {answer.problem}"
                self._bad.write(orjson.dumps({**line.value, "line": line.number, "error": answer.problem}) + b"\n")
            if self.is_array:
                rows = np.full((1, self.row_size), np.nan, dtype="<f4") if answer.rows is None else answer.rows
                num_rows += len(rows)
                self._out.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
            elif not answer.problem or line.openai:
                self._out.write(_json(answer) + b"\n")
        last = answers[-1].line
        self._record(
            input_offset=last.end,
            next_line=last.number + 1,
            num_lines=self.progress.num_lines + len(answers),
            num_bad=self.progress.num_bad + num_bad,
            num_rows=self.progress.num_rows + num_rows,
        )

    def finish(self) -> None:
        """Record in the files that the run is whole.

        Raises:
            ServeError: the disk is full, or fails.
        """
        with self._on_disk():
            if self.is_array:
                self._out.seek(0)
                self._out.write(_npy_header(self.progress.num_rows, self.row_size))
                self._out.seek(0, os.SEEK_END)
            self._record(done=True)
        self.close()
        if not self.progress.num_bad:
            self.side.unlink()

    def close(self) -> None:
        """Close both files; what is past the record is of no use."""
        for stream in (self._out, self._bad):
            with suppress(OSError):
                stream.close()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServeError(
                f"serve.output={self.output} cannot be written any more: {error.strerror}", hint=self.go_on
            ) from None

    def _record(self, **changed: Any) -> None:
        """Sync both files, then replace the record in one step: it never promises what is not on the disk."""
        for stream in (self._out, self._bad):
            stream.flush()
            os.fsync(stream.fileno())
        sizes = {"output_bytes": self._out.tell(), "errors_bytes": self._bad.tell()}
        self.progress = msgspec.structs.replace(self.progress, **sizes, **changed)
        self.progress.write(self.output)


def _json(answer: Answer) -> bytes:
    line, option = answer.line, orjson.OPT_SERIALIZE_NUMPY
    if not line.openai:
        return orjson.dumps({**line.value, "line": line.number, **answer.fields}, option=option)
    about: dict[str, Any] = {"id": f"line-{line.number}", **line.value}
    # Theirs has no response, and an error instead, only where a request was not made at all.
    response = {"status_code": answer.status, "request_id": about["id"], "body": answer.content}
    return orjson.dumps(about | {"response": response, "error": None}, option=option)


def _open_at(file: Path, size: int) -> BinaryIO:
    stream = file.open("r+b" if file.exists() else "w+b")
    stream.truncate(size)
    stream.seek(size)
    return stream


def _npy_header(rows: int, row_size: int) -> bytes:
    """Return numpy's header; its length does not change with the number of rows."""
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (rows, row_size)}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()
