"""What a run of generation comes to: its Programs, its cache, and the rules of its scheduler."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import Plan, PlanLine
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.generation.config import generation_config
from sendnn_pipeline.generation.facts import GenerationFacts
from sendnn_pipeline.generation.image_plan import PlannedImages, images_line
from sendnn_pipeline.generation.measures import measures_of
from sendnn_pipeline.generation.programs import (
    decode_one_program,
    decode_program,
    embed_program,
    logits_one_program,
    logits_program,
    merge_program,
    prefill_program,
    steps_to_time,
)
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.programs.key import Fields
from sendnn_pipeline.programs.program import Program
from sendnn_pipeline.programs.quantized import FILE

QUANTIZED_LINE = f"reads the numbers that the weights were made of, of 4 or 8 bits ({FILE})"
BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
# The source of what decides a compiled Program beside the model's own code and the compiler's.
TRACED = (
    "generation/graphs.py",
    "generation/layers.py",
    "generation/model/attention.py",
    "generation/model/decoder.py",
    "generation/model/merge.py",
    "generation/model/residual.py",
    "generation/model/scores.py",
    "generation/model/steps.py",
    "generation/model/stubs.py",
    "generation/quantized.py",
    "generation/text_model.py",
    "models/loader.py",
    "models/parameters.py",
    "programs/quantized.py",
    "models/shards.py",
    "engines/group.py",
    "backends/export.py",
)


@dataclass(frozen=True, kw_only=True)
class GenerationPlan(Plan):
    """A plan whose Programs generate."""

    facts: GenerationFacts
    rules: Rules

    images: PlannedImages | None = None
    """How the model takes images; None where it reads text alone."""
    layer_kinds: tuple[str, ...]
    """Of each layer its kind, each of which has Programs of its own; an empty name where there is one."""
    single_rows: bool = False
    """Whether a step of one row has Programs of its own."""

    @property
    def max_model_len(self) -> int:
        """The context."""
        return self.rules.max_model_len

    @property
    def embed(self) -> Program:
        """From token ids to the first layer."""
        return embed_program(self.rules)

    @property
    def merge(self) -> Program:
        """The same, with rows of images in the places of some."""
        return merge_program(self.rules)

    def prefill(self, kind: str) -> Program:
        """A layer of some kind over a chunk of a prompt."""
        return prefill_program(self.rules, kind)

    def decode(self, kind: str) -> Program:
        """A layer of some kind over a token more for several texts."""
        return decode_program(self.rules, kind)

    def decode_one(self, kind: str) -> Program:
        """The same for one text."""
        return decode_one_program(self.rules, kind) if self.single_rows else self.decode(kind)

    @property
    def logits(self) -> Program:
        """From the last layer to logits."""
        return logits_program(self.rules)

    @property
    def logits_one(self) -> Program:
        """The same of one row."""
        return logits_one_program() if self.single_rows else self.logits


def generation_plan(run: Run) -> GenerationPlan:
    """Return the plan of a run of generation."""
    assert isinstance(run.plan, GenerationPlan)
    return run.plan


def rules_of(config: RunConfig) -> Rules:
    """Return the rules of the scheduler for a configuration of which no null is left."""
    scheduler = config.scheduler
    length, seqs, chunk = config.model.max_model_len, scheduler.max_num_seqs, scheduler.chunk_size
    tokens, blocks = scheduler.max_num_batched_tokens, config.cache.num_blocks
    assert length and seqs and chunk and tokens and blocks
    return Rules(
        max_num_seqs=seqs,
        max_model_len=length,
        num_blocks=blocks,
        chunk_size=chunk,
        max_prefill_tokens=tokens,
        interleave=scheduler.interleave,
        pausing=scheduler.pausing,
        long_output_priority=scheduler.long_output_priority,
        prefix_caching=generation_config(config).prefix_caching,
    )


def make_plan(
    config: RunConfig, model: ModelFacts, facts: GenerationFacts, limits: Limits, images: PlannedImages | None = None
) -> GenerationPlan:
    """Plan a configuration of which no null is left."""
    single_rows = config.model.dtype in limits.single_rows
    rules, dtype = rules_of(config), config.model.dtype
    size = BYTES_OF_DTYPE[dtype]
    ranks = config.parallel.tensor_parallel
    cache = rules.num_blocks * BLOCK_SIZE * facts.bytes_per_token(model.num_layers, size) // ranks
    defaults = ", ".join(f"{name}={value}" for name, value in facts.defaults.items()) or "none"
    tokens = f"{rules.num_blocks} blocks of {BLOCK_SIZE} tokens, {rules.num_blocks * BLOCK_SIZE:,} in all"
    quantized = sum(model.quantized_files.values()) if single_rows and ranks == 1 else 0
    types = facts.layer_types
    kinds = types if len(set(types)) > 1 else ("",) * len(types)
    return GenerationPlan(
        steps=steps_to_time(rules, tuple(dict.fromkeys(kinds)), images=images is not None, single_rows=single_rows),
        max_input_tokens=rules.max_model_len - 1,
        unit="sequences",
        key_fields=(
            ("transformers", version("transformers")),
            ("code", _traced_digest()),
            *rank_fields(ranks),
        ),
        memory_bytes={"weights": model.num_parameters * size // ranks + quantized, "KV cache": cache},
        ranks=ranks,
        lines=(
            PlanLine("engine", f"{config.engine.name}: up to {rules.max_num_seqs} sequences at once"),
            PlanLine("context", f"{rules.max_model_len} tokens, prompts in chunks of {rules.chunk_size}"),
            PlanLine("KV cache", f"{tokens}, {cache / 2**20:,.0f} MiB", "cache.num_blocks"),
            *(() if images is None else (images_line(config),)),
            *rank_lines(ranks, facts),
            *((PlanLine("one row", QUANTIZED_LINE),) if quantized else ()),
            PlanLine("sampling", f"the model's own defaults: {defaults}"),
        ),
        measures=measures_of(rules.max_model_len),
        info={
            "model": {"task": "generate", "generation_defaults": dict(facts.defaults)},
            "max_num_seqs": rules.max_num_seqs,
            "num_blocks": rules.num_blocks,
            "block_size": BLOCK_SIZE,
        },
        facts=facts,
        rules=rules,
        images=images,
        layer_kinds=kinds,
        single_rows=single_rows,
    )


def rank_fields(ranks: int) -> Fields:
    """Return what several ranks add to the fields of a key: one whole model is another Program than a part of it."""
    return (("ranks", str(ranks)),) if ranks > 1 else ()


def rank_lines(ranks: int, facts: GenerationFacts) -> tuple[PlanLine, ...]:
    """Return the plan's line of several ranks."""
    if ranks == 1:
        return ()
    each = f"each with {facts.num_kv_heads // ranks} of {facts.num_kv_heads} key heads and as much of every layer"
    return (PlanLine("ranks", f"{ranks} processes, {each}", "parallel.tensor_parallel"),)


@lru_cache(maxsize=1)
def _traced_digest() -> str:
    package = Path(__file__).parent.parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in TRACED)).hexdigest()[:16]
