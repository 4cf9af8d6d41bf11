"""What is asked in a chunk of lines, answered as the engine's routes answer requests."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.batch.lines import Line
from sendnn_pipeline.batch.sink import Answer, Sink
from sendnn_pipeline.batch.source import Source
from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.frontend.bodies import convert_body
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.errors import ErrorForm, RequestError, openai_error
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.tokenizer import TextTokenizer

TRUNCATE = {"truncate_prompt_tokens": -1}


@dataclass
class Work:
    """What is to be done, and where it goes."""

    source: Source
    sink: Sink
    options: BatchConfig
    endpoints: Mapping[str, Endpoint[Any]]
    tokenizer: TextTokenizer

    async def answer(self, front: Frontend, chunk: list[Line]) -> list[Answer]:
        """Answer one chunk, its lines all at once; a line that cannot be answered has its problem instead."""
        return list(await asyncio.gather(*(self._answer(front, line) for line in chunk)))

    async def _answer(self, front: Frontend, line: Line) -> Answer:
        if line.problem:
            return Answer(line, problem=line.problem)
        if line.openai:
            endpoint, body = self.endpoints.get(line.url), line.body
            if endpoint is None:
                message = f"its url is {line.url!r}; known are {', '.join(self.endpoints)}"
                return _refused(line, RequestError(404, message, param="url", code="not_found"))
        else:
            try:
                endpoint, body, line = self._ask(front, line)
            except RequestError as error:
                return _refused(line, error)
        if not isinstance(body, dict):
            return _refused(line, RequestError(400, "its body is not an object", param="body", code="invalid_value"))
        if self.sink.is_array and (endpoint.lines is None or endpoint.lines.rows is None):
            return Answer(line, problem="it asks for more than the numbers of a text, and an array has one row a line")
        return await self._request(front, line, endpoint, body)

    def _ask(self, front: Frontend, line: Line) -> tuple[Endpoint[Any], dict[str, Any], Line]:
        """Return the route that a line of the user's own form is for, its body, and the line without what is in it.

        Raises:
            RequestError: it asks nothing, or two things.
        """
        present = _present(line.value)
        ways = dict.fromkeys(way for one in self.endpoints.values() if one.lines for way in one.lines.asked_by)
        found = [" with ".join(sorted(way, reverse=True)) for way in ways if way <= present.keys()]
        if len(found) > 1:
            message = f"it has {' and '.join(found)}, and a line asks one thing: leave one out"
            raise RequestError(400, message, code="invalid_value")
        for endpoint in self.endpoints.values():
            asked = endpoint.lines.ask(front, present) if endpoint.lines else None
            if asked is not None:
                body, used = asked
                echoed = {name: value for name, value in line.value.items() if name not in used}
                return endpoint, body, Line(line.number, line.end, echoed)
        raise RequestError(400, "it has nothing that a route of the engine takes, such as text", code="invalid_value")

    async def _request(self, front: Frontend, line: Line, endpoint: Endpoint[Any], body: dict[str, Any]) -> Answer:
        typed = None
        try:
            typed = convert_body({**(TRUNCATE if self.options.truncate else {}), **_present(body)}, endpoint.body)
            content, call = await front.answer(endpoint, typed, math.inf)
        except RequestError as error:
            if error.status >= 500 and error.code != "engine_failed":
                # Not this line's fault: the engine is gone.
                raise ServeError(f"the engine gave up: {error.message}") from None
            return _refused(line, error, endpoint.error_form(typed))
        num_tokens = call.work.num_tokens
        if self.sink.is_array:
            return self._row(line, endpoint, content, num_tokens)
        if line.openai:
            return Answer(line, content=content, num_tokens=num_tokens)
        assert endpoint.lines is not None
        return Answer(line, endpoint.lines.fields(typed, content), num_tokens=num_tokens)

    def _row(self, line: Line, endpoint: Endpoint[Any], content: Any, num_tokens: int) -> Answer:
        assert endpoint.lines is not None and endpoint.lines.rows is not None
        rows = endpoint.lines.rows(content)
        if len(rows) != 1:
            return Answer(line, problem="it has several texts, and an array has one row a line")
        if rows.shape[1] != self.sink.row_size:
            problem = f"it asks for {rows.shape[1]} numbers, and the array's rows have {self.sink.row_size}"
            return Answer(line, problem=problem)
        return Answer(line, rows=rows, num_tokens=num_tokens)


def _refused(line: Line, error: RequestError, form: ErrorForm = openai_error) -> Answer:
    """Return why a line has no answer, and the status and body that it has over HTTP."""
    status, content = form(error)
    return Answer(line, content=content, status=status, problem=error.message)


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are set: null is unset, over HTTP, too."""
    return {name: value for name, value in fields.items() if value is not None}


def row_size(endpoints: Mapping[str, Endpoint[Any]], front_run: Any) -> int | None:
    """Return the numbers of each row of an array; None where no route gives such rows."""
    sizes = (e.lines.row_size(front_run) for e in endpoints.values() if e.lines and e.lines.rows and e.lines.row_size)
    return next(sizes, None)
