"""The Programs of a run: from ids to the first layer, a layer over a chunk or a token of several texts, and logits."""

from collections.abc import Sequence

from sendnn_pipeline.engines.plan import Step
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules, num_blocks_of
from sendnn_pipeline.programs.program import Dim, Program

EMBED, MERGE, PREFILL, DECODE, LOGITS = "embed", "merge", "prefill", "decode", "logits"
TOKENS, PROMPTS, QUERIES, BLOCKS = "tokens", "prompts", "queries", "blocks"
BATCH, ROWS = "batch", "rows"


def embed_program(rules: Rules) -> Program:
    """Return the Program from token ids to hidden states."""
    return Program(EMBED, (_up_to(TOKENS, max(rules.max_prefill_tokens, rules.max_num_seqs)),))


def merge_program(rules: Rules) -> Program:
    """Return the Program from token ids and rows of images to hidden states."""
    return Program(MERGE, (_up_to(TOKENS, rules.max_prefill_tokens),))


def prefill_program(rules: Rules, kind: str = "") -> Program:
    """Return the Program of a layer over chunks: all tokens, prompts, the longest chunk, and the most blocks.

    Args:
        rules: of the scheduler.
        kind: of the layer, where a model has several.
    """
    sizes = {
        TOKENS: rules.max_prefill_tokens,
        PROMPTS: rules.max_num_seqs,
        QUERIES: rules.longest_chunk,
        BLOCKS: _longest(rules),
    }
    return Program(_function(PREFILL, kind), tuple(_up_to(name, most) for name, most in sizes.items()))


def decode_program(rules: Rules, kind: str = "") -> Program:
    """Return the Program of a layer over a token more: so many rows, and the blocks of all rows together.

    Args:
        rules: of the scheduler.
        kind: of the layer, where a model has several.
    """
    # A block that rows share counts for each of them.
    most = rules.max_num_seqs * _longest(rules)
    return Program(_function(DECODE, kind), (_up_to(BATCH, rules.max_num_seqs), _up_to(BLOCKS, most)))


def decode_one_program(rules: Rules, kind: str = "") -> Program:
    """Return the Program of a layer over a token more for one text."""
    return Program(_function(DECODE, kind), (Dim(BATCH, 1), _up_to(BLOCKS, _longest(rules))))


def logits_program(rules: Rules) -> Program:
    """Return the Program from hidden states to logits."""
    return Program(LOGITS, (_up_to(ROWS, rules.max_num_seqs),))


def logits_one_program() -> Program:
    """Return the Program from one hidden state to logits."""
    return Program(LOGITS, (Dim(ROWS, 1),))


def part_of(program: Program) -> str:
    """Return which part of a model a Program is."""
    return program.function.partition("_")[0]


def kind_of(program: Program) -> str:
    """Return the type of the layers it is for; empty where all are of one."""
    return program.function.partition("_")[2]


def steps_to_time(
    rules: Rules, kinds: Sequence[str], *, images: bool = False, single_rows: bool = False
) -> dict[Program, tuple[Step, ...]]:
    """Return every Program with the steps that are run and timed before serving, in order.

    Args:
        rules: of the scheduler.
        kinds: of layers, one empty name where all are of one.
        images: whether prompts may have them.
        single_rows: whether one row has Programs of its own.
    """
    chunk, seqs, longest = rules.longest_chunk, rules.max_num_seqs, _longest(rules)
    full = max(seqs, min(rules.num_blocks - 1, seqs * longest))
    # A prompt each in a block of its own, and no more than the cache has.
    several = min(seqs, rules.max_prefill_tokens // BLOCK_SIZE, rules.num_blocks - 1)
    chunks = {(several * BLOCK_SIZE, several, BLOCK_SIZE, 1)}
    chunks |= {
        (size, 1, size, blocks)
        for size, blocks in ((16, 1), (BLOCK_SIZE, 1), (chunk, num_blocks_of(chunk)), (chunk, longest))
    }
    rows = {(1, 1), (1, longest), (min(8, seqs), 4 * min(8, seqs)), (seqs, 4 * seqs), (seqs, full)}
    decodes = {(batch, blocks) for batch, blocks in rows if blocks <= min(full, batch * longest)}
    steps: dict[Program, tuple[Step, ...]] = {embed_program(rules): (Step((chunk,), chunk),)}
    if images:
        steps[merge_program(rules)] = (Step((chunk,), chunk),)
    for kind in kinds:
        steps[prefill_program(rules, kind)] = tuple(Step(sizes, sizes[0]) for sizes in sorted(chunks))
        for sizes in sorted(decodes):
            one = single_rows and sizes[0] == 1
            program = decode_one_program(rules, kind) if one else decode_program(rules, kind)
            steps[program] = (*steps.get(program, ()), Step(sizes, sizes[0]))
    for number in sorted({1, min(8, seqs), seqs}):
        program = logits_one_program() if single_rows and number == 1 else logits_program(rules)
        steps[program] = (*steps.get(program, ()), Step((number,), number))
    return steps


def _up_to(name: str, most: int) -> Dim:
    """Return a range from one; one alone is no range to a compiler."""
    return Dim(name, most, 1 if most > 1 else None)


def _function(part: str, kind: str) -> str:
    return f"{part}_{kind}" if kind else part


def _longest(rules: Rules) -> int:
    return num_blocks_of(rules.max_model_len)
