"""What crosses between processes: plain values, encoded with msgpack. An engine's own structs travel as payloads."""

from typing import Any, Literal

import msgspec


class StageEvent(msgspec.Struct, frozen=True, tag="stage"):
    """A stage, or one Program within it, began, ended or failed."""

    stage: str
    state: Literal["started", "finished", "failed"]
    program: str = ""
    index: int = 0
    """Of the Program among ``total``, from 1."""
    total: int = 0
    seconds: float = 0.0
    detail: str = ""
    source: Literal["", "artifact", "compiled"] = ""
    rank: int = 0


class MeasuredStep(msgspec.Struct, frozen=True):
    """What a full step of one size takes."""

    program: str
    sizes: dict[str, int]
    """By the names of the Program's dimensions."""
    num_tokens: int
    ms: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is warm."""

    steps: list[MeasuredStep]
    measured: bool
    """Whether the steps were timed now, rather than by an earlier start."""
    resident_bytes: int
    engine: dict[str, Any]


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The engine's loop goes round."""

    silent_seconds: list[float]
    """For how long the first rank has not heard each rank; of itself 0."""


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """What changed without a step, as where a request left."""

    measures: dict[str, float]
    """As those of ``StepDone``."""


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """A rank of another node than the first has come to the others."""

    link: str
    """Where the process that started it hears of the end of node 0."""


class EngineLost(msgspec.Struct, frozen=True, tag="lost"):
    """A process of the engine died, and the engine is started again; the edge's own word."""

    reason: str
    attempt: int
    """From 1, among ``max_attempts`` in a row."""
    max_attempts: int
    seconds: float
    """Until the start."""


class Fatal(msgspec.Struct, frozen=True, tag="fatal"):
    """The engine cannot go on; ``message`` is one line."""

    message: str
    exit_code: int
    at: float = 0.0
    """Seconds of the machine's monotonic clock: of several ranks that fail, the first is the cause."""
    is_final: bool = False
    """Whether another start is not worth it."""


class Request(msgspec.Struct, frozen=True, tag="request"):
    """Work for the engine."""

    request_id: int
    deadline: float
    """Seconds of the machine's monotonic clock, as all times here."""
    payload: msgspec.Raw
    """The engine's own struct, as msgpack."""
    name: str = ""
    """What its client calls it, for logs; two may have one."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The client is gone, or has what it asked for: forget the request, or one item of it."""

    request_id: int
    item: int = -1
    """Index of the item; -1 is all."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Leave once nothing waits."""


class StepStarted(msgspec.Struct, frozen=True, tag="step_started"):
    """A Program begins to run items of these requests."""

    request_ids: list[int]


class StepDone(msgspec.Struct, frozen=True, tag="step"):
    """One Program ran once."""

    program: str
    num_items: int
    max_items: int
    """How many items the step had room for."""
    real_tokens: int
    computed_tokens: int
    started: float
    finished: float
    waiting: int
    recompiles: int
    generated: int = 0
    """Of the real tokens those that are no part of a prompt."""
    measures: dict[str, float] = {}
    """Of the plan's measures: what a counter grew by, what a gauge is; ``name/label`` where it has labels."""


class Part(msgspec.Struct, frozen=True, tag="part"):
    """A part of the answer to one request."""

    request_id: int
    payload: msgspec.Raw
    """The engine's own struct, as msgpack."""
    num_items: int
    """Items of the request that are done with this part."""
    last: bool
    program: str
    padding_tokens: int
    enqueued: float
    started: float
    finished: float


class RequestFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The engine gives no answer, or no more of it, to a request."""

    request_id: int
    reason: Literal["deadline", "failed", "refused"]
    item: int
    """Index of the item that is at fault; -1 where none is."""
    message: str
    detail: str = ""
    """For the log alone: a library's own words."""


ToEngine = Request | Cancel | Drain
FromEngine = (
    StageEvent | Joined | Ready | Alive | Measured | EngineLost | Fatal | StepStarted | StepDone | Part | RequestFailed
)
