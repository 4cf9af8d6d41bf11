"""Our engine in this process, without HTTP: tokenize, batch, compute, collect."""

import os

import numpy as np
import torch
from tokenizers import Tokenizer

from sendnn_pipeline.config.resolve import Run
from sendnn_pipeline.hooks.manager import load_plugins
from sendnn_pipeline.messages import StepDone, Submit, Vectors
from sendnn_pipeline.pipeline.rank import stages_to_warm
from sendnn_pipeline.pipeline.stage import run_stages
from sendnn_pipeline.pipeline.warmup import WarmEngine
from sendnn_pipeline.pooling.batcher import Batcher
from sendnn_pipeline.pooling.engine import PoolingEngine
from sendnn_pipeline.pooling.streams import Streams


def warm_engine(run: Run, observe=lambda event: None) -> WarmEngine:
    """Load, compile and warm up in this process."""
    backends = load_plugins(dict(os.environ)).registry("register_compile_backends", "compile backend")
    backend, simple = backends.create(run.config.backend.name), backends.create(run.config.backend.simple)
    return run_stages(stages_to_warm(run, backend, simple, observe), run, observe)


class Ours:
    """Embeds lists of texts and remembers what was computed for the last one."""

    def __init__(self, run: Run) -> None:
        self.warm = warm_engine(run)
        self.tokenizer = Tokenizer.from_file(str(run.model.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max(shape.prompt_len for shape in run.shapes))
        self.real_tokens = self.computed_tokens = 0

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return vectors ``[texts, dimensions]``, all texts queued at once."""
        said: list = []
        engine = PoolingEngine(self.warm.runner, Batcher(self.warm.costs, self.warm.run.step_tokens), said.append)
        engine.submit(Submit(1, [encoding.ids for encoding in self.tokenizer.encode_batch(texts)], float("inf")))
        with Streams(engine, self.warm.run.streams, torch.get_num_threads()) as streams:
            while not streams.idle:
                streams.fill()
                streams.wait()
                streams.collect()
        steps = [message for message in said if isinstance(message, StepDone)]
        self.real_tokens = sum(step.real_tokens for step in steps)
        self.computed_tokens = sum(step.computed_tokens for step in steps)
        rows: dict[int, np.ndarray] = {}
        for message in said:
            if isinstance(message, Vectors):
                data = np.frombuffer(message.data, dtype="<f4").reshape(-1, message.dimensions)
                rows.update(zip(message.indices, data, strict=True))
        return np.stack([rows[index] for index in range(len(texts))])
