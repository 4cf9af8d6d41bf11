"""The pooling engine: embeddings, scores of pairs and labels, by what the model is. No torch until it is opened."""

from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.engines.lengths import describe_left_out, mixed_texts
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.sharding import RANKS, DividedByTransformers, check_ranks
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.machine.cpu import cpu_kind
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.pooling.choose import ShapeNeeds, choose_shapes, cost_of_steps, read_workload
from sendnn_pipeline.pooling.config import POOLINGS, SHAPES, Task
from sendnn_pipeline.pooling.expected_padding import LOAD, expected_padding, sample_lengths
from sendnn_pipeline.pooling.facts import GENERATES, PoolingFacts, read_pooling_facts
from sendnn_pipeline.pooling.plan import PoolingPlan, make_plan
from sendnn_pipeline.pooling.shapes import AUTO, FUNCTION, LENGTH, parse_shapes, shape_of
from sendnn_pipeline.programs.program import Program
from sendnn_pipeline.programs.times import StepTimes, timing_prefix

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.world import World

STEP_TOKENS_OF_THREAD = 512


class PoolingEngine(DividedByTransformers):
    """Runs encoders and classifiers, and decoders as encoders."""

    name = "pooling"
    keys: tuple[str, ...] = ("engine.", "warmup.", "scheduler.max_num_batched_tokens", "process.concurrent_steps")

    def claim(self, facts: ModelFacts) -> str | None:
        """Claim every model that does not generate, and those that say how they pool."""
        if (facts.architecture.endswith(GENERATES) or "vision_config" in facts.config) and not (
            facts.folder / "modules.json"
        ).is_file():
            return None
        labels = read_pooling_facts(facts).labels
        return f"{facts.architecture} gives {'labels' if labels else 'embeddings'}"

    def resolve(self, draft: Draft, limits: Limits) -> None:
        """Decide the task, how it pools, how long inputs are, how steps run, and which shapes are compiled."""
        facts = read_pooling_facts(draft.model)
        for notice in facts.notices:
            draft.note(notice)
        _resolve_task(draft, facts)
        _resolve_prompt(draft, facts)
        _resolve_lengths(draft, facts)
        if draft[RANKS] > 1 and limits.exchangeable_weights:
            check_ranks(draft)
        _resolve_steps(draft, limits)
        _resolve_shapes(draft, facts, limits)

    def plan(self, config: RunConfig, model: ModelFacts, limits: Limits) -> PoolingPlan:
        """Make one Program of every shape."""
        return make_plan(config, model, read_pooling_facts(model), limits)

    def open(self, run: Run, world: "World") -> EngineCore:
        """Map the weights."""
        from sendnn_pipeline.pooling.core import open_core

        return open_core(run, world)


def _resolve_task(draft: Draft, facts: PoolingFacts) -> None:
    architecture = draft.model.architecture
    if draft["engine.task"] == Task.auto:
        task = Task.classify if facts.labels else Task.embed
        draft.put("engine.task", str(task), Layer.MODEL, f"{architecture} in config.json")
    elif draft["engine.task"] == Task.classify and not facts.labels:
        raise ConfigError(
            f"engine.task=classify, and {architecture} has no classification head",
            where=draft.where("engine.task"),
            hint="use engine.task=embed",
        )
    if draft["engine.task"] == Task.classify:
        for key in ("engine.pooling", "engine.normalize", "model.matryoshka"):
            draft.note_unused(key, "this run classifies")
        return
    _resolve_pooling(draft, facts)
    if draft["model.matryoshka"] is None:
        draft.put("model.matryoshka", facts.matryoshka, Layer.MODEL, "the model's files")


def _resolve_pooling(draft: Draft, facts: PoolingFacts) -> None:
    assumed = "no modules.json: sentence-transformers' rule"
    pooling, where = draft["engine.pooling"], draft.where("engine.pooling")
    if pooling == AUTO:
        draft.put("engine.pooling", facts.pooling, Layer.MODEL, facts.sources.get("pooling", assumed))
        if facts.generates:
            draft.note(
                f"{draft.model.architecture} generates text, and no file says how it gives vectors: {facts.pooling} "
                "pooling is assumed (engine.pooling= overrides), and it scores and ranks nothing"
            )
        elif not facts.has_modules:
            draft.note(f"the model has no modules.json; {facts.pooling} pooling is assumed (engine.pooling= overrides)")
    elif not set(pooling.split("+")) <= set(POOLINGS):
        raise ConfigError(
            f"engine.pooling={pooling} must be auto, {', '.join(POOLINGS)}, or several joined by +", where=where
        )
    if draft["engine.normalize"] is None:
        draft.put("engine.normalize", facts.normalize, Layer.MODEL, facts.sources.get("modules", assumed))


def _resolve_prompt(draft: Draft, facts: PoolingFacts) -> None:
    name = draft["engine.prompt_name"]
    if name is None:
        draft.put(
            "engine.prompt_name", facts.default_prompt or "", Layer.MODEL, facts.sources.get("prompts", "no file")
        )
    elif name and name not in facts.prompts:
        known = f"it has {', '.join(facts.prompts)}" if facts.prompts else "it has none"
        raise ConfigError(
            f"engine.prompt_name={name} is not a prompt of the model; {known}",
            where=draft.where("engine.prompt_name"),
            hint="use one of its own, or leave it out",
        )


def _resolve_lengths(draft: Draft, facts: PoolingFacts) -> None:
    if draft["model.max_model_len"] is None:
        if not facts.max_length:
            raise ConfigError(
                "no file of the model says how long its inputs may be", hint="say so with model.max_model_len=TOKENS"
            )
        draft.put("model.max_model_len", facts.max_length, Layer.MODEL, facts.sources["max_length"])
    limit = draft.model.position_limit
    if limit and draft["model.max_model_len"] > limit:
        raise ConfigError(
            f"model.max_model_len={draft['model.max_model_len']} is more than the model's {limit} positions",
            where=draft.where("model.max_model_len"),
            hint="lower it",
        )


def _resolve_steps(draft: Draft, limits: Limits) -> None:
    """Decide how many steps run at once and how large they are."""
    threads, backend, ranks = max(1, draft.threads), draft["backend.name"], draft[RANKS]
    if ranks > 1:
        if (draft["process.concurrent_steps"] or 1) > 1:
            steps = draft["process.concurrent_steps"]
            raise ConfigError(
                f"process.concurrent_steps={steps}, and {ranks} ranks compute one step at a time",
                where=draft.where("process.concurrent_steps"),
                hint="use 1",
            )
        draft.put("process.concurrent_steps", 1, Layer.CHOSEN, f"{ranks} ranks compute each step together")
    if draft["process.concurrent_steps"] is None:
        steps = threads if limits.concurrent_steps else 1
        one = f"{backend} runs one step at a time"
        reason = f"one for each of {threads} threads" if limits.concurrent_steps else one
        draft.put("process.concurrent_steps", steps, Layer.CHOSEN, reason)
    elif draft["process.concurrent_steps"] > 1 and not limits.concurrent_steps:
        raise ConfigError(
            f"process.concurrent_steps={draft['process.concurrent_steps']}, and backend={backend} runs one step at a "
            "time",
            where=draft.where("process.concurrent_steps"),
            hint="use 1",
        )
    if draft["scheduler.max_num_batched_tokens"] is None:
        tokens = STEP_TOKENS_OF_THREAD * max(1, threads // draft["process.concurrent_steps"])
        reason = f"{STEP_TOKENS_OF_THREAD} for each thread of a step"
        draft.put("scheduler.max_num_batched_tokens", tokens, Layer.CHOSEN, reason)


def _resolve_shapes(draft: Draft, facts: PoolingFacts, limits: Limits) -> None:
    programs = parse_shapes(draft[SHAPES] or AUTO, draft.where(SHAPES))
    chosen = programs is None
    if programs is None:
        programs = _choose(draft, limits)
    ranged = any(program.has_ranges for program in programs)
    if not chosen or limits.default_shapes:
        draft.note_unused("warmup.trace", "shapes are named")
    if not chosen or ranged:
        draft.note_unused("warmup.budget", "the backend takes a range of sizes" if chosen else "shapes are named")
    for program in programs:
        _check_program(program, draft, limits)
    longest = max(program.dim(LENGTH).max for program in programs)
    if longest < draft["model.max_model_len"]:
        draft.note(
            f"inputs longer than {longest} tokens are refused, although the model takes "
            f"{draft['model.max_model_len']}: no warmup shape is longer"
        )


def _choose(draft: Draft, limits: Limits) -> tuple[Program, ...]:
    prefix = timing_prefix(
        draft.model.structure_digest,
        draft.values["backend"],
        draft["model.dtype"],
        cpu_kind(),
        threads=draft.threads,
        concurrent_steps=draft["process.concurrent_steps"],
        ranks=draft[RANKS],
    )
    recorded = StepTimes(draft.timing_folders).read(prefix)
    # Other engines may have run this model, too.
    own = {name: steps for name, steps in recorded.items() if name.startswith(f"{FUNCTION}[")}
    workload = read_workload(draft["warmup.trace"], draft.where("warmup.trace"))
    left_out = describe_left_out(workload, f"warmup.trace={draft['warmup.trace']}")
    if left_out:
        draft.note(left_out)
    needs = ShapeNeeds(
        draft["model.max_model_len"],
        draft["scheduler.max_num_batched_tokens"],
        workload,
        cost_of_steps(own),
        draft["warmup.budget"],
    )
    choice = choose_shapes(needs, limits)
    if choice.padding is None:
        reason = f"auto: the default of backend={draft['backend.name']}"
    else:
        texts = needs.workload if draft["warmup.trace"] else mixed_texts()
        lengths = sample_lengths(texts.clipped(needs.max_length).shares)
        steps = draft["process.concurrent_steps"]
        padding = expected_padding(choice.programs, needs.cost, needs.step_tokens, steps, lengths)
        reason = f"auto for {needs.max_length} tokens; {padding:.0%} padding expected with {LOAD}"
    draft.put(SHAPES, [shape_of(program) for program in choice.programs], Layer.CHOSEN, reason)
    return choice.programs


def _check_program(program: Program, draft: Draft, limits: Limits) -> None:
    shape, length, backend = shape_of(program), program.dim(LENGTH).max, draft["backend.name"]
    where, max_length = draft.where(SHAPES), draft["model.max_model_len"]
    if length > max_length:
        limit = draft.model.position_limit
        raise ConfigError(
            f"shape {shape} in warmup is longer than the model's {max_length} tokens",
            where=where,
            hint=f"use lengths up to {max_length}, or raise model.max_model_len (at most {limit})",
        )
    if program.has_ranges and not limits.ranges:
        fixed = "x".join(str(dim.max) for dim in reversed(program.dims))
        raise ConfigError(
            f"shape {shape} in warmup is a range, and {backend} compiles fixed sizes only",
            where=where,
            hint=f"write {fixed}",
        )
    if length % limits.token_multiple:
        raise ConfigError(
            f"shape {shape} in warmup is not a multiple of {limits.token_multiple} tokens, as {backend} needs",
            where=where,
            hint=f"use multiples of {limits.token_multiple}",
        )
