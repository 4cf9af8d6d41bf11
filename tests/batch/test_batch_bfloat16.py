"""Files in bfloat16, on any CPU: as near to float32 as transformers' own bfloat16 is."""

import numpy as np
import pytest

from tests.batch.test_batch import rows_of, write
from tests.classifiers import PROSE, reference_logits
from tests.reference import Rounding, mean_pooled_ids


@pytest.fixture
def array_of(tmp_path, whole_run):
    """The array that a batch makes of values."""

    def embed(folder, values):
        source, output = write(tmp_path / "in.jsonl", values), tmp_path / "out.npy"
        words = ("serve=batch", "model=local", f"model.path={folder}", "model.dtype=bfloat16", "backend=eager")
        ended = whole_run(*words, f"serve.input={source}", f"serve.output={output}")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return np.load(output)

    return embed


def test_vectors(tiny, array_of):
    rows = rows_of(40)
    rounding = Rounding.of(lambda dtype: mean_pooled_ids(tiny, rows, dtype))
    rounding.check(array_of(tiny, [{"input": row} for row in rows]))


def test_probabilities(classifier, array_of):
    texts = [text[:60] for text in PROSE[:40]]

    def probabilities(dtype):
        powers = np.exp(reference_logits(classifier, texts, dtype=dtype))
        return powers / powers.sum(axis=1, keepdims=True)

    Rounding.of(probabilities).check(array_of(classifier, texts))
