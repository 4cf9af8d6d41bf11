"""The plan of a device that takes a decoder whole: two Programs, the cache that is compiled in, and the rules."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from sendnn_pipeline.backends.base import Bounds, WholeDecoder
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import PlanLine, Step
from sendnn_pipeline.generation.config import generation_config
from sendnn_pipeline.generation.device.resolve import volume_limit
from sendnn_pipeline.generation.facts import GenerationFacts
from sendnn_pipeline.generation.image_plan import PlannedImages, images_line
from sendnn_pipeline.generation.measures import measures_of
from sendnn_pipeline.generation.plan import BYTES_OF_DTYPE, GenerationPlan, rank_fields, rank_lines
from sendnn_pipeline.generation.programs import BATCH, BLOCKS, DECODE, PREFILL, TOKENS
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules, num_blocks_of, sendnn_rules
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.programs.program import Dim, Program

# The source of what decides a compiled Program beside the model's own code and the compiler's.
TRACED = (
    "generation/device/decoder.py",
    "generation/device/graphs.py",
    "generation/device/ops.py",
    "generation/text_model.py",
    "models/loader.py",
    "models/shards.py",
    "engines/group.py",
)


@dataclass(frozen=True, kw_only=True)
class DevicePlan(GenerationPlan):
    """A plan of two Programs, each the whole model."""

    def prefill(self, kind: str) -> Program:
        """The model over a chunk of a prompt, whatever the kind of layer."""
        return prefill_program(self.rules)

    def decode(self, kind: str) -> Program:
        """The model over a token more for several texts."""
        return decode_program(self.rules)


def prefill_program(rules: Rules) -> Program:
    """Return the Program of a whole chunk: so many blocks up to its end, its padding included."""
    chunk, chunks = rules.chunk_size, -(-rules.max_model_len // rules.chunk_size)
    return Program(PREFILL, (Dim(TOKENS, chunk), _range(BLOCKS, chunks * chunk // BLOCK_SIZE, chunk // BLOCK_SIZE)))


def decode_program(rules: Rules) -> Program:
    """Return the Program of a token more: so many rows, each of as many blocks as the longest."""
    return Program(
        DECODE, (_range(BATCH, rules.max_num_seqs, 1), _range(BLOCKS, num_blocks_of(rules.max_model_len), 1))
    )


def steps_to_time(rules: Rules) -> dict[Program, tuple[Step, ...]]:
    """Return the Programs in the order of their traces, with the steps that are run before serving."""
    prefill, decode, chunk = prefill_program(rules), decode_program(rules), rules.chunk_size
    longest, seqs, limit = decode.dim(BLOCKS).max, rules.max_num_seqs, rules.max_batch_tkv or 0
    chunks = {(chunk, prefill.dim(BLOCKS).smallest), (chunk, prefill.dim(BLOCKS).max)}
    rows = {(1, 1), (1, longest), (seqs, 1)}
    rows |= (
        {(max(1, limit // (longest * BLOCK_SIZE)), longest)}
        if limit < seqs * longest * BLOCK_SIZE
        else {(seqs, longest)}
    )
    return {
        prefill: tuple(Step(sizes, chunk) for sizes in sorted(chunks)),
        decode: tuple(Step(sizes, sizes[0]) for sizes in sorted(rows, key=lambda size: (size[0] * size[1], size))),
    }


def make_device_plan(
    config: RunConfig,
    model: ModelFacts,
    facts: GenerationFacts,
    device: WholeDecoder,
    images: PlannedImages | None = None,
) -> DevicePlan:
    """Plan a configuration of which no null is left."""
    scheduler, size = config.scheduler, BYTES_OF_DTYPE[config.model.dtype]
    length, seqs, chunk = config.model.max_model_len, scheduler.max_num_seqs, scheduler.chunk_size
    blocks = config.cache.num_blocks
    assert length and seqs and chunk and blocks
    rules = sendnn_rules(
        chunk_size=chunk,
        max_num_seqs=seqs,
        max_model_len=length,
        num_blocks=blocks,
        interleave=scheduler.interleave,
        pausing=scheduler.pausing,
        long_output_priority=scheduler.long_output_priority,
        prefix_caching=generation_config(config).prefix_caching,
        max_batch_tkv=volume_limit(device, seqs, length),
    )
    ranks = config.parallel.tensor_parallel
    cache = blocks * BLOCK_SIZE * facts.bytes_per_token(model.num_layers, size) // ranks
    defaults = ", ".join(f"{name}={value}" for name, value in facts.defaults.items()) or "none"
    return DevicePlan(
        steps=steps_to_time(rules),
        max_input_tokens=length - 1,
        unit="sequences",
        key_fields=(("transformers", version("transformers")), ("code", _traced_digest()), *rank_fields(ranks)),
        memory_bytes={"weights": model.num_parameters * size // ranks, "KV cache": cache},
        ranks=ranks,
        bounds=Bounds(
            length,
            seqs,
            chunk,
            rules.max_batch_tkv or 0,
            config.artifacts.require,
            blocks,
            ranks=ranks,
            local_ranks=len(config.parallel.local_ranks),
        ),
        lines=(
            PlanLine("engine", f"{config.engine.name}: up to {seqs} sequences at once"),
            PlanLine("context", f"{length} tokens, prompts in whole chunks of {chunk}, padded on the left"),
            PlanLine("decode", f"a rectangle of up to {rules.max_batch_tkv:,} tokens, padding included"),
            PlanLine(
                "KV cache", f"{blocks} blocks of {BLOCK_SIZE} tokens, {cache / 2**20:,.0f} MiB", "cache.num_blocks"
            ),
            *(() if images is None else (images_line(config),)),
            *rank_lines(ranks, facts),
            PlanLine("sampling", f"the model's own defaults: {defaults}"),
        ),
        measures=measures_of(length),
        info={
            "model": {"task": "generate", "generation_defaults": dict(facts.defaults)},
            "max_num_seqs": seqs,
            "num_blocks": blocks,
            "block_size": BLOCK_SIZE,
        },
        facts=facts,
        rules=rules,
        images=images,
        layer_kinds=("",) * model.num_layers,
    )


def _range(name: str, largest: int, smallest: int) -> Dim:
    return Dim(name, largest, smallest if smallest < largest else None)


@lru_cache(maxsize=1)
def _traced_digest() -> str:
    package = Path(__file__).parents[2]
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in TRACED)).hexdigest()[:16]
