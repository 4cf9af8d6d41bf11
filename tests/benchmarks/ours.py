"""Our engine in this process, without HTTP and without an event loop: tokenize, batch, compute, collect."""

import select
from contextlib import ExitStack
from typing import Self

import msgspec
import numpy as np
from tokenizers import Tokenizer

from sendnn_pipeline.app.resolve import ResolvedRun
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.messages import Part, Request, RequestFailed, StepDone
from sendnn_pipeline.pipeline.compile import Compile
from sendnn_pipeline.pipeline.load import Load
from sendnn_pipeline.pipeline.stage import Stage, StageObserver, run_stages
from sendnn_pipeline.pipeline.warmup import WarmEngine, Warmup
from sendnn_pipeline.pooling.messages import PoolingOutput, PoolingRequest
from sendnn_pipeline.programs.store import store_at


def warm_engine(resolved: ResolvedRun, closing: ExitStack, observe: StageObserver = lambda event: None) -> WarmEngine:
    """Load, compile and warm up in this process.

    Args:
        resolved: the run.
        closing: closes the engine.
        observe: is told of the stages.
    """
    run, backend, world = resolved.run, resolved.backend, World()
    stages: list[Stage] = [
        Load(resolved.engine, world, closing),
        Compile(backend, backend, store_at(run.config.artifacts, run.cache_dir), world, observe),
        Warmup(backend, world, observe),
    ]
    return run_stages(stages, run, observe)  # type: ignore[no-any-return]


class Ours:
    """Embeds lists of texts while the ``with`` block runs, and remembers what was computed for the last one."""

    def __init__(self, resolved: ResolvedRun) -> None:
        run = resolved.run
        self.resolved, self.closing = resolved, ExitStack()
        self.tokenizer = Tokenizer.from_file(str(run.model.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(run.plan.max_input_tokens)
        self.real_tokens = self.computed_tokens = 0

    def __enter__(self) -> Self:
        warm = warm_engine(self.resolved, self.closing)
        self.core, self.sent = warm.core, []
        self.core.start(warm.times, self.sent.append)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return vectors ``[texts, dimensions]``, all texts queued at once."""
        self.sent.clear()
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        payload = msgspec.Raw(msgspec.msgpack.encode(PoolingRequest(ids)))
        self.core.take(Request(1, float("inf"), payload))
        self.core.step()
        while not self.core.idle:
            select.select([self.core.wake], [], [])
            self.core.step()
        steps = [message for message in self.sent if isinstance(message, StepDone)]
        self.real_tokens = sum(step.real_tokens for step in steps)
        self.computed_tokens = sum(step.computed_tokens for step in steps)
        rows: dict[int, np.ndarray] = {}
        for message in self.sent:
            if isinstance(message, RequestFailed):
                raise RuntimeError(message.message)
            if isinstance(message, Part):
                output = msgspec.msgpack.decode(message.payload, type=PoolingOutput)
                data = np.frombuffer(output.data, dtype="<f4").reshape(-1, output.size)
                rows.update(zip(output.indices, data, strict=True))
        return np.stack([rows[index] for index in range(len(texts))])
