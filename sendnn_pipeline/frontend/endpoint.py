"""What can be asked of an engine, whichever way it comes: over HTTP, in a batch file, in a bench, from Python."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from sendnn_pipeline.frontend.call import Call, Work
from sendnn_pipeline.frontend.errors import ErrorForm, OpenAIError, openai_error

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sendnn_pipeline.engines.run import Run
    from sendnn_pipeline.frontend.frontend import Frontend

Body = TypeVar("Body")


@dataclass(frozen=True)
class Prepared:
    """A request that was checked."""

    payload: msgspec.Struct
    """What the engine is sent."""
    work: Work


@dataclass(frozen=True)
class BenchItems:
    """What a request of a bench is made of: real prose."""

    token_ids: Sequence[Sequence[int]]
    """Of each text, with the model's special tokens."""
    texts: Sequence[str]
    """The same without special tokens."""
    query: str
    """A short text, for routes that compare."""
    images: Sequence[bytes] = ()
    """PNG files, for routes that take images."""
    round: int = 0
    """How often the same texts were asked before, for routes that would remember them."""


@dataclass(frozen=True)
class Bench:
    """How a bench asks."""

    applies: "Callable[[Run], bool]"
    """Whether benches of the run go to this route; of one route alone."""
    body: "Callable[[Run, BenchItems], dict[str, Any]]"
    """Makes the body of a request."""
    images: bool = False
    """Whether it is the route of requests with images, rather than of those without."""


@dataclass(frozen=True)
class Lines:
    """How lines of a batch file that name no route are asked and answered."""

    ask: "Callable[[Frontend, Mapping[str, Any]], tuple[dict[str, Any], frozenset[str]] | None]"
    """Makes a body of a line's object, and names the fields that went into it; None where it is not for this route."""
    fields: Callable[[Any, Any], dict[str, Any]]
    """Takes the body and the content of the answer; returns the fields added to the line."""
    rows: "Callable[[Any], npt.NDArray[np.float32]] | None" = None
    """Takes the content of the answer; returns ``[items, size]`` for an array. None where there are no such numbers."""
    row_size: "Callable[[Run], int] | None" = None
    """Numbers of each row."""
    asked_by: tuple[frozenset[str], ...] = ()
    """What makes a line one for this route, each set of fields by itself; a line with two such sets is bad."""


@dataclass(frozen=True)
class Endpoint(Generic[Body]):
    """What one route does, apart from the transport."""

    body: type[Body]
    """Of a request."""
    prepare: "Callable[[Frontend, Body], Coroutine[Any, Any, Prepared]]"
    """Checks a body and makes of it what the engine is sent; raises ``RequestError``."""
    render: "Callable[[Frontend, Body, Call], Coroutine[Any, Any, Any]]"
    """Gathers the parts and returns the content of the answer, which is written as JSON."""
    stream: "Callable[[Frontend, Body, Call], AsyncIterator[Any]] | None" = None
    """Yields the contents of server-sent events as the parts come; for bodies whose ``stream`` is true."""
    error_form: Callable[[Body | None], ErrorForm] = lambda _: openai_error
    """Says how errors are written for a body, or for one that could not be read."""
    lines: Lines | None = None
    """For batch files."""
    bench: Bench | None = None
    """For benches."""
    tokenize: "Callable[[Frontend, Body], Coroutine[Any, Any, list[int]]] | None" = None
    """Returns the token ids of what a body asks about, for the route that shows them; of bodies with ``messages``."""
    answer: Any = Any
    """The type of the content of an answer, for the OpenAPI document."""
    summary: str = ""
    """What the route does, in a sentence."""
    errors: tuple[type, ...] = (OpenAIError,)
    """The types of what ``error_form`` writes."""

    def streams(self, body: Body) -> bool:
        """Return whether the answer to ``body`` is a stream."""
        return self.stream is not None and bool(getattr(body, "stream", False))
