"""A route with what the OpenAPI document says of it."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.routing import Route

from sendnn_pipeline.frontend.errors import OpenAIError


class ApiRoute(Route):
    """A route of JSON.

    Args:
        path: where it is.
        handler: what answers.
        methods: that it takes.
        body: the type of a request's JSON; None takes none.
        answer: the type of an answer's JSON, or the media type of one that is not JSON.
        errors: the types of an error's JSON.
        streams: whether a body may ask for server-sent events.
        summary: what it does, in a sentence; the handler's own first line where there is none.
    """

    def __init__(
        self,
        path: str,
        handler: Callable[..., Any],
        *,
        methods: Sequence[str] = ("GET",),
        body: Any = None,
        answer: Any = Any,
        errors: tuple[type, ...] = (OpenAIError,),
        streams: bool = False,
        summary: str = "",
    ) -> None:
        super().__init__(path, handler, methods=list(methods))
        self.asked_by, self.body, self.answer, self.errors, self.streams = tuple(methods), body, answer, errors, streams
        self.summary = summary or (handler.__doc__ or "").partition("\n")[0]
