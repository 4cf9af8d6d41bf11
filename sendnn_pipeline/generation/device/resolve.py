"""What a run of generation comes to on a device that takes a decoder whole. No torch."""

from sendnn_pipeline.backends.base import WholeDecoder
from sendnn_pipeline.config.draft import Draft, Layer
from sendnn_pipeline.engines.sharding import check_ranks
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.generation.facts import FULL, read_generation_facts
from sendnn_pipeline.generation.rules import BLOCK_SIZE, num_blocks_of
from sendnn_pipeline.models.facts import ModelFacts

LENGTH, SEQS, CHUNK = "model.max_model_len", "scheduler.max_num_seqs", "scheduler.chunk_size"
STEP_TOKENS, NUM_BLOCKS = "scheduler.max_num_batched_tokens", "cache.num_blocks"


def resolve_device(draft: Draft, device: WholeDecoder) -> None:
    """Decide the context, how many sequences run at once, the chunk, and how many blocks are compiled in.

    Raises:
        ConfigError: a value does not fit the model or the device.
    """
    _check_layers(draft.model)
    check_ranks(draft)
    _resolve_length(draft, device)
    _resolve_up_to(draft, SEQS, device.max_num_seqs)
    longest = draft[LENGTH]
    if draft[CHUNK] is None:
        draft.put(CHUNK, min(device.prefill_chunk, longest), Layer.CHOSEN, "the device's default")
    _check_blocks(draft, CHUNK)
    if draft[STEP_TOKENS] is None:
        draft.put(STEP_TOKENS, draft[CHUNK], Layer.CHOSEN, f"one chunk a step: {CHUNK}")
    elif draft[STEP_TOKENS] != draft[CHUNK]:
        raise ConfigError(
            f"{STEP_TOKENS}={draft[STEP_TOKENS]}, and a step of the device is one chunk of {draft[CHUNK]} tokens",
            where=draft.where(STEP_TOKENS),
            hint=f"leave it out, or set {CHUNK}",
        )
    if longest > device.max_batch_tkv:
        raise ConfigError(
            f"{LENGTH}={longest} is more than the {device.max_batch_tkv} tokens that a decode takes",
            where=draft.where(LENGTH),
            hint=f"use at most {device.max_batch_tkv // BLOCK_SIZE * BLOCK_SIZE}",
        )
    _resolve_blocks(draft, volume_limit(device, draft[SEQS], longest))


def volume_limit(device: WholeDecoder, max_num_seqs: int, max_model_len: int) -> int:
    """Return the most rows times tokens of a decode: the device's, or what all sequences come to."""
    return min(device.max_batch_tkv, max_num_seqs * max_model_len)


def compiled_blocks(max_num_seqs: int, max_model_len: int, wanted: int | None) -> int:
    """Return how many KV blocks there are: a multiple of the sequences, block 0 for padding among them."""
    if wanted:
        return wanted // max_num_seqs * max_num_seqs
    full = max_num_seqs * (max_model_len // BLOCK_SIZE)
    return -(-(full + 1) // max_num_seqs) * max_num_seqs


def required_blocks(max_num_seqs: int, max_model_len: int, max_batch_tkv: int) -> int:
    """Return how few blocks are enough for whatever may decode at once."""
    return min(max_num_seqs * (max_model_len // BLOCK_SIZE), max_batch_tkv // BLOCK_SIZE) + 1


def _check_layers(model: ModelFacts) -> None:
    types = set(read_generation_facts(model).layer_types) - {FULL, "attention"}
    if types:
        raise ConfigError(
            f"{model.architecture} has layers of {', '.join(sorted(types))}, and the device computes full attention",
            hint="use backend=inductor",
        )


def _resolve_length(draft: Draft, device: WholeDecoder) -> None:
    limit = draft.model.position_limit
    if draft[LENGTH] is None:
        length = min(limit or device.max_model_len, device.max_model_len) // BLOCK_SIZE * BLOCK_SIZE
        draft.put(LENGTH, length, Layer.MODEL, "the model's positions and the device's limit")
    elif limit and draft[LENGTH] > limit:
        raise ConfigError(
            f"{LENGTH}={draft[LENGTH]} is more than the model's {limit} positions",
            where=draft.where(LENGTH),
            hint="lower it",
        )
    _check_blocks(draft, LENGTH)
    _resolve_up_to(draft, LENGTH, device.max_model_len)


def _resolve_up_to(draft: Draft, key: str, most: int) -> None:
    if draft[key] is None:
        draft.put(key, most, Layer.CHOSEN, "the device's limit")
    elif draft[key] > most:
        raise ConfigError(
            f"{key}={draft[key]} is more than the {most} that the device takes", where=draft.where(key), hint="lower it"
        )


def _check_blocks(draft: Draft, key: str) -> None:
    if draft[key] % BLOCK_SIZE or not draft[key]:
        raise ConfigError(
            f"{key}={draft[key]} is not a multiple of {BLOCK_SIZE}, the tokens of a block",
            where=draft.where(key),
            hint=f"use {num_blocks_of(max(1, draft[key])) * BLOCK_SIZE}",
        )


def _resolve_blocks(draft: Draft, max_batch_tkv: int) -> None:
    seqs, length, wanted = draft[SEQS], draft[LENGTH], draft[NUM_BLOCKS]
    blocks, needed = compiled_blocks(seqs, length, wanted), required_blocks(seqs, length, max_batch_tkv)
    if blocks < needed:
        raise ConfigError(
            f"{NUM_BLOCKS}={wanted} gives {blocks} blocks, a multiple of {SEQS}={seqs}, and {needed} are needed",
            where=draft.where(NUM_BLOCKS),
            hint=f"use {-(-needed // seqs) * seqs}, or leave it out",
        )
    if wanted is None:
        draft.put(NUM_BLOCKS, blocks, Layer.CHOSEN, f"{SEQS} sequences of {LENGTH} tokens, and a block of padding")
    elif wanted != blocks:
        draft.note(f"{NUM_BLOCKS}={wanted} is rounded down to {blocks}, a multiple of {SEQS}={seqs}")
        draft.put(NUM_BLOCKS, blocks, Layer.CHOSEN, f"{wanted}, rounded down to a multiple of {seqs}")
