"""Steps that are timed before serving: within what their Programs take, those of one row apart where they are."""

import pytest

from sendnn_pipeline.generation.programs import DECODE, LOGITS, steps_to_time
from sendnn_pipeline.generation.rules import Rules


@pytest.mark.parametrize("single_rows", [False, True])
@pytest.mark.parametrize(
    ("seqs", "length", "blocks"), [(1, 64, 2), (1, 512, 5000), (64, 64, 65), (64, 8192, 1457), (8, 128, 9), (2, 192, 7)]
)
def test_steps_fit_their_programs(seqs, length, blocks, single_rows):
    rules = Rules(max_num_seqs=seqs, max_model_len=length, num_blocks=blocks, chunk_size=64, max_prefill_tokens=1024)
    steps = steps_to_time(rules, ("",), single_rows=single_rows)
    for program, timed in steps.items():
        assert timed
        for step in timed:
            assert all(
                (dim.min or dim.max) <= size <= dim.max for dim, size in zip(program.dims, step.sizes, strict=True)
            )
    # With one sequence at most, the Programs of a range are those of one row.
    apart = single_rows and seqs > 1
    for function in (DECODE, LOGITS):
        rows = [{step.sizes[0] for step in timed} for program, timed in steps.items() if program.function == function]
        assert len(rows) == 1 + apart and ({1} in rows) == (apart or seqs == 1)
