"""The three Programs of a run: a chunk of a prompt, a token of each of several texts, and logits."""

from sendnn_pipeline.engines.plan import Step
from sendnn_pipeline.generation.rules import BLOCK_SIZE, Rules, num_blocks_of
from sendnn_pipeline.programs.program import Dim, Program

PREFILL, DECODE, LOGITS = "prefill", "decode", "logits"
TOKENS, BLOCKS, BATCH, ROWS = "tokens", "blocks", "batch", "rows"


def prefill_program(rules: Rules) -> Program:
    """Return the Program of a chunk: as many tokens, and as many blocks up to its end."""
    return Program(PREFILL, (Dim(TOKENS, rules.chunk_size, 1), Dim(BLOCKS, _longest(rules), 1)))


def decode_program(rules: Rules) -> Program:
    """Return the Program of a token more: so many rows, and the blocks of all rows together."""
    # A block that rows share counts for each of them.
    most = rules.max_num_seqs * _longest(rules)
    return Program(DECODE, (Dim(BATCH, rules.max_num_seqs, 1), Dim(BLOCKS, most, 1)))


def logits_program(rules: Rules) -> Program:
    """Return the Program from hidden states to logits."""
    return Program(LOGITS, (Dim(ROWS, rules.max_num_seqs, 1),))


def steps_to_time(rules: Rules) -> dict[Program, tuple[Step, ...]]:
    """Return every Program with the steps that are run and timed before serving, in order."""
    chunk, seqs, longest = rules.chunk_size, rules.max_num_seqs, _longest(rules)
    full = max(seqs, rules.num_blocks - 1)
    chunks = {(min(16, chunk), 1), (BLOCK_SIZE, 1), (chunk, num_blocks_of(chunk)), (chunk, longest)}
    rows = {(1, 1), (1, longest), (min(8, seqs), 4 * min(8, seqs)), (seqs, 4 * seqs), (seqs, full)}
    decodes = {(batch, blocks) for batch, blocks in rows if blocks <= full}
    return {
        prefill_program(rules): tuple(Step(sizes, sizes[0]) for sizes in sorted(chunks)),
        decode_program(rules): tuple(Step(sizes, sizes[0]) for sizes in sorted(decodes)),
        logits_program(rules): tuple(Step((rows,), rows) for rows in sorted({1, seqs})),
    }


def _longest(rules: Rules) -> int:
    return num_blocks_of(rules.max_model_len)
