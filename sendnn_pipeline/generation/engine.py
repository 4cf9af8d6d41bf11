"""The generation engine: continuous batching over a paged KV cache. No torch until it is opened."""

from typing import TYPE_CHECKING

from sendnn_pipeline.backends.base import Limits
from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.config.schema import RunConfig
from sendnn_pipeline.engines.base import EngineCore
from sendnn_pipeline.engines.run import Run
from sendnn_pipeline.engines.sharding import DividedByTransformers, check_ranks
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.device.plan import DevicePlan, make_device_plan
from sendnn_pipeline.generation.device.resolve import resolve_device
from sendnn_pipeline.generation.facts import GENERATES, GenerationFacts, read_generation_facts
from sendnn_pipeline.generation.image_plan import find_adapter, plan_images, resolve_images
from sendnn_pipeline.generation.plan import BYTES_OF_DTYPE, GenerationPlan, make_plan
from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of
from sendnn_pipeline.hooks.manager import Plugins
from sendnn_pipeline.machine.memory import available_bytes
from sendnn_pipeline.models.facts import ModelFacts
from sendnn_pipeline.multimodal.adapters import ImageAdapter
from sendnn_pipeline.multimodal.devices import device_registry

if TYPE_CHECKING:
    from sendnn_pipeline.distributed.world import World

LENGTH, SEQS, CHUNK = "model.max_model_len", "scheduler.max_num_seqs", "scheduler.chunk_size"
STEP_TOKENS, NUM_BLOCKS = "scheduler.max_num_batched_tokens", "cache.num_blocks"
PRECOMPILED = "artifacts.require_precompiled_decoders"
DEFAULT_SEQS, DEFAULT_CHUNK, DEFAULT_LENGTH = 64, 512, 32768
# Those that decode get a token each between steps of prefill: the larger a step, the fewer of them a prompt waits for.
CHUNKS_OF_STEP = 2
# Of what is free once the weights are there; the rest is for activations and for others.
CACHE_SHARE = 0.5
# Enough for dozens of long texts; more is a user's word, as a process that takes all memory surprises.
DEFAULT_CACHE_BYTES = 2 * 2**30


class GenerationEngine(DividedByTransformers):
    """Continues texts."""

    name = "generation"
    keys: tuple[str, ...] = ("engine.", "scheduler.", "cache.", "multimodal.", PRECOMPILED)

    def __init__(self) -> None:
        self._plugins: Plugins | None = None

    def use_plugins(self, plugins: Plugins) -> None:
        """Take the plugins, which have the architectures that read images and the devices that encode them."""
        self._plugins = plugins

    def _adapter(self, model: ModelFacts) -> ImageAdapter | None:
        return None if self._plugins is None else find_adapter(self._plugins, model)

    def claim(self, facts: ModelFacts) -> str | None:
        """Claim every causal model that does not say how it pools."""
        if self._adapter(facts) is not None:
            return f"{facts.architecture} reads images and generates text"
        if facts.architecture.endswith(GENERATES) and not (facts.folder / "modules.json").is_file():
            return f"{facts.architecture} generates text"
        return None

    def resolve(self, draft: Draft, limits: Limits) -> None:
        """Decide the context, how many sequences run at once, how large the cache is, and where images are encoded."""
        _require_precompiled(draft)
        if self._plugins is not None and self._adapter(draft.model) is not None:
            resolve_images(self._plugins, draft)
        else:
            for key in draft.named_keys():
                if key.startswith("multimodal."):
                    draft.note_unused(key, f"{draft.model.architecture} reads text alone")
        if limits.whole_decoder is not None:
            resolve_device(draft, limits.whole_decoder)
            return
        if not (limits.in_place and limits.ranges and limits.exchangeable_weights):
            raise ConfigError(
                f"backend={draft['backend.name']} does not compile what generation needs: sizes in ranges, a cache "
                "that is written in place, and layers that are compiled once",
                where=draft.where("backend.name"),
                hint="use backend=inductor, without backend.freezing=true",
            )
        facts = read_generation_facts(draft.model)
        check_ranks(draft)
        _resolve_length(draft)
        if draft[SEQS] is None:
            draft.put(SEQS, DEFAULT_SEQS, Layer.CHOSEN, "the default on CPUs")
        if draft[CHUNK] is None:
            longest = num_blocks_of(draft[LENGTH]) * BLOCK_SIZE
            draft.put(CHUNK, min(DEFAULT_CHUNK, longest), Layer.CHOSEN, "the default")
        if draft[CHUNK] % BLOCK_SIZE:
            raise ConfigError(
                f"{CHUNK}={draft[CHUNK]} is not a multiple of {BLOCK_SIZE}, the tokens of a block",
                where=draft.where(CHUNK),
                hint=f"use {num_blocks_of(draft[CHUNK]) * BLOCK_SIZE}",
            )
        if draft[STEP_TOKENS] is None:
            draft.put(STEP_TOKENS, CHUNKS_OF_STEP * draft[CHUNK], Layer.CHOSEN, f"{CHUNKS_OF_STEP} of {CHUNK}")
        if draft[STEP_TOKENS] < BLOCK_SIZE:
            raise ConfigError(
                f"{STEP_TOKENS}={draft[STEP_TOKENS]} is less than a block of {BLOCK_SIZE} tokens, the "
                "minimum of a prefill step",
                where=draft.where(STEP_TOKENS),
                hint=f"use {BLOCK_SIZE} or more",
            )
        _resolve_blocks(draft, facts)

    def plan(self, config: RunConfig, model: ModelFacts, limits: Limits) -> GenerationPlan:
        """Plan what is compiled."""
        facts, adapter = read_generation_facts(model), self._adapter(model)
        images = None if adapter is None else plan_images(adapter, model)
        if limits.whole_decoder is not None:
            return make_device_plan(config, model, facts, limits.whole_decoder, images)
        return make_plan(config, model, facts, limits, images)

    def open(self, run: Run, world: "World") -> EngineCore:
        """Map the weights."""
        from sendnn_pipeline.generation.device.core import open_device_core
        from sendnn_pipeline.generation.opening import open_core

        core = open_device_core(run, world) if isinstance(run.plan, DevicePlan) else open_core(run, world)
        adapter = self._adapter(run.model)
        if self._plugins is not None and adapter is not None:
            from sendnn_pipeline.generation.pictured import open_pictured

            device = device_registry(self._plugins).create(run.config.multimodal.device)
            core.open_images = lambda: open_pictured(run, adapter, device, world, core.wake)
            if world.size == 1:
                core.place_images()
        return core


def _require_precompiled(draft: Draft) -> None:
    """Require artifacts where decoders are to be compiled already: all Programs of this engine are a decoder's."""
    if draft[PRECOMPILED] and not draft["artifacts.require"]:
        draft.put("artifacts.require", True, Layer.CHOSEN, draft.where(PRECOMPILED) or PRECOMPILED)


def _resolve_length(draft: Draft) -> None:
    limit = draft.model.position_limit
    if draft[LENGTH] is None:
        length = min(limit, DEFAULT_LENGTH) if limit else DEFAULT_LENGTH
        draft.put(LENGTH, length, Layer.MODEL, "the model's positions")
    elif limit and draft[LENGTH] > limit:
        raise ConfigError(
            f"{LENGTH}={draft[LENGTH]} is more than the model's {limit} positions",
            where=draft.where(LENGTH),
            hint="lower it",
        )


def _resolve_blocks(draft: Draft, facts: GenerationFacts) -> None:
    """Take what all sequences could fill, if it fits the memory that is left, and at least one whole context."""
    model, length = draft.model, draft[LENGTH]
    size = BYTES_OF_DTYPE[draft["model.dtype"]]
    block_bytes = BLOCK_SIZE * facts.bytes_per_token(model.num_layers, size)
    left = max(0, available_bytes() - 2 * model.num_parameters * size)
    fit, one = int(left * CACHE_SHARE) // block_bytes, num_blocks_of(length) + 1
    if draft[NUM_BLOCKS] is None:
        wanted = draft[SEQS] * num_blocks_of(length) + 1
        usual = max(one, DEFAULT_CACHE_BYTES // block_bytes)
        draft.put(NUM_BLOCKS, max(2, min(wanted, fit, usual)), Layer.CHOSEN, "limits, and the memory that is left")
    blocks = draft[NUM_BLOCKS]
    if blocks * block_bytes > left:
        raise ConfigError(
            f"{NUM_BLOCKS}={blocks} take {blocks * block_bytes / 2**30:.1f} GiB, and {left / 2**30:.1f} GiB are left "
            "beside the weights",
            where=draft.where(NUM_BLOCKS),
            hint=f"at most {left // block_bytes} blocks fit",
        )
    if blocks < one:
        raise ConfigError(
            f"{LENGTH}={length} needs {one} blocks of cache, and there are {blocks}",
            where=draft.where(LENGTH) or draft.where(NUM_BLOCKS),
            hint=f"the largest context that fits is {LENGTH}={(blocks - 1) * BLOCK_SIZE}"
            if blocks > 1
            else f"of the smallest context, {NUM_BLOCKS}=2 is enough",
        )
