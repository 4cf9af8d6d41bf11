"""The HTTP application over a warm engine, for targets that bring a server of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from starlette.types import ASGIApp

from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.target import LINGER_SECONDS, Session
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.server.app import make_app
from sendnn_pipeline.server.health import why_not_ready
from sendnn_pipeline.server.state import server_state


@dataclass(frozen=True)
class Offer:
    """A warm engine as an ASGI application, with every route of ``serve=http``."""

    app: ASGIApp
    client: EngineClient

    def why_not_ready(self) -> str | None:
        """Return why ``/ready`` says 503; None where it says 200."""
        return why_not_ready(self.client)

    async def drain(self, seconds: float = LINGER_SECONDS) -> int:
        """Take no new request, let those that run finish, and return how many did not."""
        return await self.client.drain(seconds)


@asynccontextmanager
async def offer(session: Session) -> AsyncIterator[Offer]:
    """Run the engine while the block does, which is entered when the engine is warm.

    What of ``serve.`` is about addresses, connections and slow clients is the server's own.

    Raises:
        EngineError: it reported a failure, or died.
        ModelError: the model's tokenizer cannot be read.
    """
    with closing(load_tokenizer(session.run.model.folder)) as tokenizer:
        async with session.engine(session.run.config.serve.max_queue) as client:
            await client.wait_ready()
            state = server_state(session, client, tokenizer)
            try:
                yield Offer(make_app(state, session.endpoints, session.api_keys), client)
            finally:
                state.aside.shutdown(wait=False, cancel_futures=True)
