"""What crosses between processes: plain values, encoded with msgpack."""

from typing import Any, Literal

import msgspec


class StageEvent(msgspec.Struct, frozen=True, tag="stage"):
    """A stage, or one Program within it, began, ended or failed."""

    stage: str
    state: Literal["started", "finished", "failed"]
    program: str = ""
    place: int = 0
    count: int = 0
    seconds: float = 0.0
    detail: str = ""
    source: Literal["", "artifact", "compiled"] = ""


class MeasuredStep(msgspec.Struct, frozen=True):
    """What a full step of one size took."""

    program: str
    batch_size: int
    length: int
    ms: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is warm."""

    steps: list[MeasuredStep]
    measured: bool
    resident_bytes: int
    engine: dict[str, Any]


class Fatal(msgspec.Struct, frozen=True, tag="fatal"):
    """The engine cannot go on; ``message`` is one line."""

    message: str
    exit_code: int


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Texts, or pairs of texts, of one request as token ids. Times are seconds of the machine's monotonic clock."""

    request_id: int
    items: list[list[int]]
    deadline: float
    second_at: list[int] = []
    """Where the second text of each pair begins; empty where the model need not know."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The client is gone: forget the request."""

    request_id: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Leave once nothing waits."""


class StepStarted(msgspec.Struct, frozen=True, tag="step_started"):
    """A Program begins to run texts of these requests."""

    request_ids: list[int]


class StepDone(msgspec.Struct, frozen=True, tag="step"):
    """One Program ran once."""

    program: str
    batch_size: int
    num_items: int
    real_tokens: int
    computed_tokens: int
    started: float
    finished: float
    waiting: int
    recompiles: int


class Vectors(msgspec.Struct, frozen=True, tag="vectors"):
    """Vectors, or a classifier's logits, of some items of one request: little-endian float32, item by item."""

    request_id: int
    indices: list[int]
    dimensions: int
    data: bytes
    program: str
    padding: int
    enqueued: float
    started: float
    finished: float


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The engine gives no vectors for a request."""

    request_id: int
    reason: Literal["deadline", "failed"]
    index: int
    message: str


ToEngine = Submit | Cancel | Stop
FromEngine = StageEvent | Ready | Fatal | StepStarted | StepDone | Vectors | Refused
