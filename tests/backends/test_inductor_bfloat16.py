"""Inductor in bfloat16, where it folds the weights in: as near to float32 as transformers' own bfloat16, on any CPU."""

import pytest

from sendnn_pipeline import Embedder
from tests.reference import Rounding, mean_pooled, mean_pooled_ids
from tests.served import Served

BFLOAT16 = ("model.dtype=bfloat16", "backend=inductor")
# CPUs that only emulate bfloat16 take half a second for each.
NUM_TEXTS = 12


@pytest.mark.slow
def test_vectors_against_transformers(minilm, texts, artifacts):
    with Embedder("model=minilm", *BFLOAT16, artifacts, "process.num_cpus=1") as embedder:
        vectors = embedder.embed(texts[:NUM_TEXTS], truncate_prompt_tokens=256)
    rounding = Rounding.of(lambda dtype: mean_pooled(minilm, texts[:NUM_TEXTS], dtype))
    rounding.check(vectors)


ROWS = [[2, 5 + number % 40, *range(6, 8 + number), 3] for number in range(40)]


@pytest.fixture(scope="module")
def words(tiny, artifacts):
    """Words of a run whose artifacts are there, built at two threads."""
    made = ("model=local", f"model.path={tiny}", *BFLOAT16, artifacts, "warmup.shapes=[8..64x1..8]")
    with Embedder(*made, "process.num_cpus=2"):
        pass
    return (*made, "artifacts.require=true")


@pytest.fixture(scope="module")
def rounding(tiny):
    return Rounding.of(lambda dtype: mean_pooled_ids(tiny, ROWS, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_library_built_at_one_thread_count_runs_at_others(words, rounding, threads):
    with Embedder(*words, f"process.num_cpus={threads}") as embedder:
        rounding.check(embedder.embed(ROWS))


@pytest.mark.slow
def test_in_a_server_at_many(tiny, words, rounding):
    with Served(*words, "process.num_cpus=8") as served:
        info = served.get("/info").json()
        assert info["engine"]["threads"] == 8 and info["startup"]["programs_compiled"] == 0
        answer = served.client().embeddings.create(model=tiny.name, input=ROWS)
    rounding.check([row.embedding for row in answer.data])
