"""The pooling engine from Python: the same run, engine and endpoints as behind HTTP, in a thread of this process."""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console

from sendnn_pipeline.app.context import AppContext, load_context
from sendnn_pipeline.app.endpoints import collect_endpoints
from sendnn_pipeline.app.plan_table import plan_lines, print_plan
from sendnn_pipeline.app.resolve import ResolvedRun, compose_run, resolve_run
from sendnn_pipeline.app.run import make_session, observe_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.environment import extend_environment, process_environment
from sendnn_pipeline.distributed.inline import start_inline
from sendnn_pipeline.errors import ConfigError, nearest
from sendnn_pipeline.frontend.errors import wrong_body
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.tokenizer import load_tokenizer
from sendnn_pipeline.pipeline.rank import run_rank

EMBED, SCORE, CLASSIFY = "/v1/embeddings", "/v1/score", "/v1/classify"


class Embedder:
    """Vectors, scores and labels of texts.

    ```python
    with Embedder("model=minilm", "backend=inductor") as embedder:
        vectors = embedder.embed(["compiled shapes", "are fixed"])  # float32 [2, 384]
    ```

    It starts when it is entered, or at the first call, and ends when it is left or closed.

    Args:
        overrides: as the command line has them, ``key=value``.
        verbose: print the plan and the stages.
    """

    def __init__(self, *overrides: str, verbose: bool = False) -> None:
        self._overrides, self._console = overrides, Console(quiet=not verbose)
        self._engine: _RunningEmbedder | None = None
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Load, compile and warm up, unless that is done.

        Raises:
            PipelineError: the run cannot start; the message says why and what to do.
        """
        self._started()

    def _started(self) -> "_RunningEmbedder":
        with self._changing:
            if self._engine is None:
                context = load_context(process_environment())
                composed = compose_run(context, parse_overrides(self._overrides))
                engine = _RunningEmbedder(context, resolve_run(context, composed, composed.fetch()), self._console)
                engine.start()
                self._engine = engine
            return self._engine

    def close(self) -> None:
        """End the engine and its threads; calls that are under way are answered."""
        with self._changing:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def embed(self, texts: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a vector for each text, ``[texts, dimensions]``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/embeddings``, such as ``dimensions`` or ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no vectors.
            TypeError: there is no such option.
        """
        inputs = texts if isinstance(texts, str) else list(texts)
        content = self._ask(EMBED, {"input": inputs, **options, "encoding_format": "float"})
        return np.stack([entry["embedding"] for entry in content["data"]])

    def score(self, query: str, documents: Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """Return a score for each document, ``[documents]``: of a cross-encoder, or the cosine of two vectors.

        Args:
            query: what they are compared with.
            documents: one or more.
            options: fields of the body of ``/v1/score``, such as ``truncate_prompt_tokens``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no scores.
            TypeError: there is no such option.
        """
        content = self._ask(SCORE, {"queries": query, "documents": list(documents), **options})
        return np.array([entry["score"] for entry in content["data"]], np.float32)

    def classify(self, texts: str | Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """Return the likeliest ``label`` of each text with the probabilities of all, ``probs``.

        Args:
            texts: one or several.
            options: fields of the body of ``/v1/classify``, such as ``use_activation``.

        Raises:
            RequestError: a text is empty or too long, or the model gives no labels.
            TypeError: there is no such option.
        """
        inputs = texts if isinstance(texts, str) else list(texts)
        content = self._ask(CLASSIFY, {"input": inputs, **options})
        return [{"label": entry["label"], "probs": entry["probs"]} for entry in content["data"]]

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        return self._started().ask(path, body)


class _RunningEmbedder:
    """The event loop in a thread of its own, since a notebook has one already; the engine in another."""

    def __init__(self, context: AppContext, resolved: ResolvedRun, console: Console) -> None:
        self._context, self._resolved, self._console = context, resolved, console
        self._endpoints = collect_endpoints(context.plugins, resolved.run.config.engine.name)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sendnn-embedder", daemon=True)
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Run until the engine is warm."""
        self._thread.start()
        started: Future[Frontend] = Future()
        self._running = asyncio.run_coroutine_threadsafe(self._run(started), self._loop)
        either: list[Future[Any]] = [started, self._running]
        wait(either, return_when=FIRST_COMPLETED)
        if not started.done():
            self._stop_loop()
            self._running.result()
        self._front = started.result()

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Return the content of the answer to a body."""
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            raise ConfigError(f"the engine {self._resolved.run.config.engine.name} has no {path}")
        fields: tuple[str, ...] = endpoint.body.__struct_fields__
        unknown = next((name for name in body if name not in fields), None)
        if unknown is not None:
            raise TypeError(f"{path} has no field {unknown}; {nearest(unknown, fields)}")
        try:
            typed = msgspec.convert(body, endpoint.body)
        except msgspec.ValidationError as error:
            raise wrong_body(error) from None
        asked = asyncio.run_coroutine_threadsafe(self._front.answer(endpoint, typed, math.inf), self._loop)
        try:
            content, _ = asked.result()
        except BaseException:
            # Ctrl-C, too, takes the request out of the queue.
            asked.cancel()
            raise
        return content

    def close(self) -> None:
        """End engine and loop."""
        self._loop.call_soon_threadsafe(self._closing.set)
        try:
            self._running.result()
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _run(self, started: "Future[Frontend]") -> None:
        resolved, context, console = self._resolved, self._context, self._console
        run = resolved.run
        extend_environment(resolved.backend.prepare(run.cache_dir, context.environ))
        print_plan(console, resolved, plan_lines(resolved, str(run.threads)))
        tokenizer = load_tokenizer(run.model.folder)
        try:
            with observe_run(context.plugins, resolved, console) as observers:
                session = make_session(
                    resolved,
                    start=lambda: start_inline(run_rank, run),
                    endpoints=self._endpoints,
                    observers=observers,
                    say=console.print,
                    api_key=None,
                    started=time.monotonic(),
                    about={},
                )
                async with session.engine() as client:
                    await client.wait_ready()
                    if client.dead is None:
                        started.set_result(Frontend(run, client, tokenizer))
                    # Where it is gone, the block ends with the reason.
                    await self._closing.wait()
                    await client.drain(math.inf)
        finally:
            tokenizer.close()
