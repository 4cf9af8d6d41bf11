"""A model that pools among two ranks: the same vectors as of one, by transformers' plan; one without is refused."""

import numpy as np
import pytest

from sendnn_pipeline import Embedder
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import ConfigError, ModelError
from sendnn_pipeline.pooling.core import open_core
from tests.conftest import resolved_run
from tests.served import EAGER_FLOAT32, Served

POOLING = (*EAGER_FLOAT32, "engine=pooling")
TWO = "parallel.tensor_parallel=2"
TEXTS = ["the assert statement", "if", "a or b " * 9, "def"]


def test_an_encoder_without_a_plan_is_refused_when_it_is_loaded(tiny):
    run = resolved_run([*POOLING, f"model.path={tiny}", TWO]).run
    with pytest.raises(ModelError) as caught:
        open_core(run, World(1, 2))
    assert "transformers has no plan to divide the layers of bert among ranks" in str(caught.value)
    assert str(caught.value).endswith("leave parallel.tensor_parallel at 1")


def test_numbers_that_do_not_divide_and_steps_at_once_are_refused(llama):
    with pytest.raises(ConfigError, match=r"tensor_parallel=3 does not divide the model's num_attention_heads=4"):
        resolved_run([*POOLING, f"model.path={llama}", "parallel.tensor_parallel=3"])
    with pytest.raises(ConfigError, match=r"concurrent_steps=2, and 2 ranks compute one step at a time"):
        resolved_run([*POOLING, f"model.path={llama}", TWO, "process.concurrent_steps=2"])
    plan, whole = (resolved_run([*POOLING, f"model.path={llama}", *more]).run.plan for more in ([TWO], []))
    assert plan.ranks == 2 and plan.concurrent_steps == 1
    assert plan.memory_bytes["weights"] == whole.memory_bytes["weights"] // 2


def test_two_ranks_give_the_vectors_of_one(llama, artifacts):
    words = (*POOLING, f"model.path={llama}", "warmup.shapes=[1..64x1..4]", "warmup.remeasure=false")
    with Embedder(*words) as alone:
        wanted = alone.embed(TEXTS)
    # In turns: what one compiles, the other finds.
    with Served(*words, TWO, "backend=inductor", artifacts, "parallel.max_load_processes=1", seconds=300) as served:
        answer = served.session.post(f"{served.url}/v1/embeddings", json={"input": TEXTS})
        found = np.array([item["embedding"] for item in answer.json()["data"]], np.float32)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        served.terminate()
        assert served.exit_code() == 0 and "drained" in served.output
