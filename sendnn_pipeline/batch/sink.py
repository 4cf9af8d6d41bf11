"""Where answers go: in the order of the lines, with a record of how far they are, so that a killed run goes on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from sendnn_pipeline.batch.lines import Line
from sendnn_pipeline.errors import ConfigError

type_vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What a line is answered with, or why it is not."""

    line: Line
    rows: type_vectors | None = None
    """Of its texts, where it asked for no more."""
    content: Mapping[str, Any] | None = None
    """What the route that it asked for answers."""
    problem: str = ""
    num_tokens: int = 0


class Progress(msgspec.Struct, frozen=True):
    """How far a run came; everything past these sizes was written after it and is cut off."""

    identity: dict[str, Any]
    """What must be the same for the run to go on."""
    input_offset: int = 0
    next_line: int = 1
    output_bytes: int = 0
    errors_bytes: int = 0
    num_lines: int = 0
    num_bad: int = 0
    num_rows: int = 0
    done: bool = False


@dataclass
class Sink:
    """Appends to an output file and a side file of bad lines."""

    output: Path
    model_name: str
    dimensions: int
    labels: tuple[str, ...]
    """A classifier's: rows are its probabilities."""
    progress: Progress

    @property
    def side(self) -> Path:
        """The file of bad lines."""
        return beside(self.output, ".errors.jsonl")

    @property
    def is_array(self) -> bool:
        """Whether the output is a numpy array, one row a text, rows of bad lines not a number."""
        return self.output.suffix == ".npy"

    def open(self) -> None:
        """Cut both files to what the record vouches for and open them.

        Raises:
            ConfigError: they cannot be written.
        """
        try:
            self._out = _open_at(self.output, self.progress.output_bytes)
            self._bad = _open_at(self.side, self.progress.errors_bytes)
        except OSError as error:
            raise ConfigError(f"serve.output={self.output} cannot be written: {error.strerror}") from None
        if self.is_array and not self.progress.output_bytes:
            self._out.write(_npy_header(0, self.dimensions))

    def write(self, answers: Sequence[Answer]) -> None:
        """Append a chunk of lines, each with its answer or its problem, and record that it is whole."""
        bad = rows = 0
        for answer in answers:
            line = answer.line
            if answer.problem:
                bad += 1
                about = {"line": line.number, **(line.echoed or {}), "error": answer.problem}
                self._bad.write(orjson.dumps(about) + b"\n")
            if self.is_array:
                held = np.full((1, self.dimensions), np.nan, dtype="<f4") if answer.rows is None else answer.rows
                rows += len(held)
                self._out.write(np.ascontiguousarray(held, dtype="<f4").tobytes())
            elif not answer.problem or line.openai:
                self._out.write(self._json(answer) + b"\n")
        last = answers[-1].line
        self._record(
            input_offset=last.end,
            next_line=last.number + 1,
            num_lines=self.progress.num_lines + len(answers),
            num_bad=self.progress.num_bad + bad,
            num_rows=self.progress.num_rows + rows,
        )

    def finish(self) -> None:
        """Say in the files that the run is whole."""
        if self.is_array:
            self._out.seek(0)
            self._out.write(_npy_header(self.progress.num_rows, self.dimensions))
            self._out.seek(0, os.SEEK_END)
        self._record(done=True)
        self._out.close()
        self._bad.close()
        if not self.progress.num_bad:
            self.side.unlink()

    def _json(self, answer: Answer) -> bytes:
        line, option = answer.line, orjson.OPT_SERIALIZE_NUMPY
        if not line.openai:
            return orjson.dumps({**(line.echoed or {}), "line": line.number, **self._plain(answer)}, option=option)
        about: dict[str, Any] = {"id": f"line-{line.number}", **(line.echoed or {})}
        if answer.problem:
            return orjson.dumps(about | {"response": None, "error": {"code": "bad_line", "message": answer.problem}})
        body = answer.content
        if body is None:
            assert answer.rows is not None
            data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(answer.rows)]
            usage = {"prompt_tokens": answer.num_tokens, "total_tokens": answer.num_tokens}
            body = {"object": "list", "data": data, "model": self.model_name, "usage": usage}
        return orjson.dumps(about | {"response": {"status_code": 200, "body": body}, "error": None}, option=option)

    def _plain(self, answer: Answer) -> dict[str, Any]:
        """Return the fields that a plain line is given."""
        if answer.content is not None:
            return {"scores": [row["score"] for row in answer.content["data"]]}
        assert answer.rows is not None
        if not self.labels:
            return {"embedding": answer.rows[0] if len(answer.rows) == 1 else answer.rows}
        named = [{"label": self.labels[int(row.argmax())], "probs": row} for row in answer.rows]
        return named[0] if len(named) == 1 else {"labels": named}

    def _record(self, **changed: Any) -> None:
        """Sync both files, then replace the record in one step: it never promises what is not on the disk."""
        for stream in (self._out, self._bad):
            stream.flush()
            os.fsync(stream.fileno())
        sizes = {"output_bytes": self._out.tell(), "errors_bytes": self._bad.tell()}
        self.progress = msgspec.structs.replace(self.progress, **sizes, **changed)
        file = beside(self.output, ".progress")
        partial = beside(self.output, ".progress.partial")
        partial.write_bytes(msgspec.json.encode(self.progress))
        partial.replace(file)


def beside(output: Path, ending: str) -> Path:
    """Return the file of this name with an ending."""
    return output.with_name(output.name + ending)


def read_progress(output: Path, identity: dict[str, Any], fresh: bool) -> Progress:
    """Return the record of an earlier run of the same work, or a new one.

    Raises:
        ConfigError: the output is there, and is not that of the same work.
    """
    new = Progress(identity)
    file = beside(output, ".progress")
    if fresh or not (output.exists() or file.exists()):
        return new
    try:
        held = msgspec.json.decode(file.read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        raise ConfigError(
            f"serve.output={output} is there already, and nothing says how far it came",
            hint="name another file, or start over with serve.fresh=true",
        ) from None
    differing = next((key for key, value in identity.items() if held.identity.get(key) != value), None)
    if differing is not None:
        raise ConfigError(
            f"serve.output={output} was begun with {differing}={held.identity.get(differing)}, and now it is "
            f"{identity[differing]}",
            hint="name another file, or start over with serve.fresh=true",
        )
    return held


def _open_at(file: Path, size: int) -> BinaryIO:
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = file.open("r+b" if file.exists() else "w+b")
    stream.truncate(size)
    stream.seek(size)
    return stream


def _npy_header(rows: int, dimensions: int) -> bytes:
    """Return numpy's header; its length does not change with the number of rows."""
    import io

    held = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimensions)}
    np.lib.format.write_array_header_1_0(held, about)
    return held.getvalue()
