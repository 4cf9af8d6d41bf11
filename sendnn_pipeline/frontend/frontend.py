"""What every way in shares: the run, the engine, the tokenizer."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, TypeVar

from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.checked import Checked
from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.endpoint import Endpoint
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.side_threads import SideThreads
from sendnn_pipeline.frontend.tokenizer import TextTokenizer

Body = TypeVar("Body")


class Usage(TypedDict):
    """What a request took: real tokens, and seconds where ``metrics.request_details`` is on."""

    prompt_tokens: int
    total_tokens: int
    queued_time_seconds: NotRequired[float]
    prefill_time_seconds: NotRequired[float]


@dataclass(frozen=True)
class Frontend:
    """The parts behind the endpoints."""

    run: Run
    client: EngineClient
    tokenizer: TextTokenizer
    checked: Checked = field(default_factory=Checked)
    threads: SideThreads = field(default_factory=SideThreads)

    def now(self) -> int:
        """Return Unix time in seconds, for ``created``."""
        return int(time.time())

    @property
    def max_input_tokens(self) -> int:
        """The longest input that some Program takes."""
        return self.run.plan.max_input_tokens

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which the model is asked for, its own first."""
        return tuple(dict.fromkeys([self.run.served_name, *self.run.config.model.aliases]))

    def check_model(self, name: str | None) -> None:
        """Refuse a model that is not the one served.

        Raises:
            RequestError: 404.
        """
        if name is not None and name not in self.names:
            message = f"no model {name}; this server has {', '.join(self.names)}"
            raise RequestError(404, message, param="model", code="model_not_found")

    @asynccontextmanager
    async def ask(self, endpoint: Endpoint[Body], body: Body, deadline: float) -> AsyncIterator[Call]:
        """Have the engine work on ``body`` while the block runs.

        Raises:
            RequestError: it is refused, or failed.
        """
        self.client.admit(1)
        try:
            async with asyncio.timeout(None if math.isinf(deadline) else deadline - time.monotonic()):
                prepared = await endpoint.prepare(self, body)
        except TimeoutError:
            message = "the deadline passed before the request was tokenized"
            raise RequestError(504, message, code="deadline_exceeded") from None
        async with self.client.open(prepared.payload, prepared.work, deadline) as call:
            yield call

    async def answer(self, endpoint: Endpoint[Body], body: Body, deadline: float) -> tuple[Any, Call]:
        """Return the content of the whole answer, and its call.

        Raises:
            RequestError: it is refused, or failed.
        """
        async with self.ask(endpoint, body, deadline) as call:
            return await endpoint.render(self, body, call), call

    def usage(self, call: Call) -> Usage:
        """Return the usage object: real tokens, and timings where they are asked for."""
        num_tokens = call.work.num_tokens
        usage = Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)
        if self.run.config.metrics.request_details:
            usage["queued_time_seconds"] = call.started - call.enqueued
            usage["prefill_time_seconds"] = call.finished - call.started
        return usage
