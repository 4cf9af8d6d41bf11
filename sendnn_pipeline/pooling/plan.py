"""What a pooling run comes to: its Programs, and what both of its processes need to know."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from sendnn_pipeline.backends.base import Bounds, Limits
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.plan import Plan, PlanLine
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.pooling.about import AboutRun
from sendnn_pipeline.pooling.config import Task, pooling_config
from sendnn_pipeline.pooling.facts import PoolingFacts
from sendnn_pipeline.pooling.modules import Module, output_size, with_normalize
from sendnn_pipeline.pooling.shapes import BATCH, LENGTH, parse_shapes, shape_of
from sendnn_pipeline.pooling.steps import steps_to_time

BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
# Live at once in an encoder layer: input, query, key, value, attention output, and the widened feed-forward twice.
WIDTHS_LIVE = 13
# Most inputs of one request.
MAX_INPUTS = 2048
# The source of what decides a compiled Program beside the model's own code and the compiler's: what makes the module
# and its example inputs, what is traced, and what finds the checkpoint's names of its tensors.
TRACED = (
    "pooling/model.py",
    "pooling/poolers.py",
    "pooling/layers.py",
    "pooling/graphs.py",
    "pooling/runner.py",
    "models/loader.py",
    "models/parameters.py",
    "models/shards.py",
    "engines/group.py",
    "backends/export.py",
)


@dataclass(frozen=True, kw_only=True)
class PoolingPlan(Plan):
    """A plan whose Programs pool."""

    facts: PoolingFacts
    task: Task
    step_tokens: int
    """Most tokens of a step whose batch is a range, padding included."""
    modules: tuple[Module, ...] = ()
    """What follows the pooling in a Program; the last scaling to length one is done where answers are made."""
    prompt: str = ""
    """What goes before texts whose request names no prompt."""
    output_size: int
    """Numbers that the engine gives for each item: of a vector, or one for each label."""

    @property
    def classifies(self) -> bool:
        """Whether the engine gives logits, of texts or of pairs that it reads at once, rather than vectors."""
        return self.task == Task.classify

    @property
    def token_type_ids(self) -> bool:
        """Whether Programs take token types beside ids and mask."""
        return self.classifies and self.facts.token_type_ids

    @property
    def excludes_prompt(self) -> bool:
        """Whether Programs take a mask of the tokens that are pooled, so that a prompt's own are not."""
        return not self.classifies and not self.facts.include_prompt


def pooling_plan(run: Run) -> PoolingPlan:
    """Return the plan of a pooling run."""
    assert isinstance(run.plan, PoolingPlan)
    return run.plan


def make_plan(config: RunConfig, model: ModelFacts, facts: PoolingFacts, limits: Limits) -> PoolingPlan:
    """Plan a configuration of which no ``auto`` is left."""
    engine, warmup = pooling_config(config)
    dtype, step_tokens = config.model.dtype, config.scheduler.max_num_batched_tokens
    concurrent_steps = config.process.concurrent_steps
    assert step_tokens is not None and concurrent_steps is not None
    programs = parse_shapes(warmup.shapes) or ()
    steps = {program: steps_to_time(program, step_tokens) for program in programs}
    # Where all weights are one Program's constants, or the device's, a model is not divided.
    ranks = config.parallel.tensor_parallel if limits.exchangeable_weights else 1
    copies = len(programs) if dtype in limits.embeds_weights else 1
    largest = max(step.num_tokens for timed in steps.values() for step in timed)
    memory = {
        "weights": copies * model.num_parameters * BYTES_OF_DTYPE[dtype] // ranks,
        "activations": concurrent_steps * largest * model.hidden_size * WIDTHS_LIVE * BYTES_OF_DTYPE[dtype],
    }
    classifies = engine.task == Task.classify
    modules = () if classifies else with_normalize(facts.modules, False)
    pooled = model.hidden_size * len(engine.pooling.split("+"))
    size = len(facts.labels) if classifies else output_size(pooled, modules)
    about = AboutRun(config, facts, size)
    return PoolingPlan(
        steps=steps,
        max_input_tokens=max(program.dim(LENGTH).max for program in programs),
        unit="texts",
        key_fields=(
            ("task", engine.task),
            ("pooling", ", ".join([engine.pooling, *map(str, modules), f"include_prompt={facts.include_prompt}"])),
            ("transformers", version("transformers")),
            ("code", _traced_digest()),
            *((("ranks", str(ranks)),) if ranks > 1 else ()),
        ),
        memory_bytes=memory,
        ranks=ranks,
        bounds=Bounds(
            max(program.dim(LENGTH).max for program in programs),
            max(program.dim(BATCH).max for program in programs),
            precompiled=config.artifacts.require,
            shapes=tuple((program.dim(LENGTH).max, program.dim(BATCH).max) for program in programs),
        ),
        concurrent_steps=concurrent_steps,
        lines=(*about.lines(), PlanLine("shapes", " ".join(map(shape_of, programs)), "warmup.shapes")),
        info=about.info() | {"max_batch_tokens": step_tokens, "max_client_batch_size": MAX_INPUTS},
        facts=facts,
        task=engine.task,
        modules=modules,
        prompt=facts.prompts.get(engine.prompt_name or "", ""),
        step_tokens=step_tokens,
        output_size=size,
    )


@lru_cache(maxsize=1)
def _traced_digest() -> str:
    package = Path(__file__).parent.parent
    return hashlib.sha256(b"".join((package / name).read_bytes() for name in TRACED)).hexdigest()[:16]
