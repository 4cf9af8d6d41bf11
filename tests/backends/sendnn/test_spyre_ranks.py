"""A decoder on several emulated cards, each driven by a process: the same texts as without, and every rule obeyed."""

import asyncio

import pytest

from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.errors import BackendError, ConfigError, EngineError
from tests.backends.sendnn.test_spyre_generation import SIZES
from tests.backends.sendnn.test_spyre_known import make_small_decoder, words_of
from tests.emulators.install import install
from tests.served import EAGER_FLOAT32, Served, sendnn

TWO = "parallel.tensor_parallel=2"
BODY = {"prompt": ["assert the", "if the condition " * 20], "max_tokens": 5, "temperature": 0}


def test_two_cards_answer_as_one_process_and_what_they_compiled_is_found_again(llama, tmp_path):
    site = {"PYTHONPATH": install("torch_sendnn", tmp_path / "site"), "AIU_WORLD_SIZE": "2"}
    words = ("model=local", f"model.path={llama}", "backend=sendnn", f"cache_dir={tmp_path}", *SIZES, TWO)
    turns = ("parallel.max_load_processes=1", "warmup.remeasure=false")
    with Served(*EAGER_FLOAT32, f"model.path={llama}") as eager:
        wanted = texts(eager)
    with Served(*words, *turns, **site) as served:
        assert texts(served) == wanted
        served.terminate()
        assert served.exit_code() == 0, served.output
    assert "ranks    2 processes, each with 1 of 2 key heads" in served.output
    assert "FATAL SIGNAL" not in served.output and "apart" not in served.output
    # The folder of both was whole when it was published: nothing has to be compiled, in whatever rank.
    again = sendnn(*words, "pipeline=precompile", "artifacts.require=true", **site)
    assert again.returncode == 0, again.stdout + again.stderr


def texts(served):
    answer = served.session.post(f"{served.url}/v1/completions", json=BODY)
    assert answer.status_code == 200, answer.text
    return [choice["text"] for choice in answer.json()["choices"]]


def test_a_known_configuration_of_four_cards_is_traced_deployed_and_warm(tmp_path):
    (model := tmp_path / "model").mkdir()
    make_small_decoder("Granite", model)
    values = {"tp_size": 4, "model.max_model_len": 1024, "scheduler.max_num_seqs": 2, "cache.num_blocks": 34}
    words = words_of("granite-4-8b-dense", tmp_path, model, values)
    site = {"PYTHONPATH": install("torch_sendnn", tmp_path / "site"), "SPYRE_DEVICES": "0,1,2,3"}
    mine = ("model=local", "backend=sendnn", f"cache_dir={tmp_path}", "pipeline=precompile")
    ended = sendnn(*words, *mine, "parallel.max_load_processes=2", "warmup.remeasure=false", **site)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "is warm after" in ended.stdout + ended.stderr


def test_cards_that_are_called_in_another_order_end_the_run(llama, card):
    resolved = card.resolve(f"model.path={llama}", *SIZES, TWO, "pipeline=precompile")

    async def main():
        ranks = start_ranks("tests.backends.sendnn.jobs:run_in_another_order", resolved.run, card.variables)
        try:
            async for _ in ranks.messages():
                pass
        finally:
            ranks.kill()

    with pytest.raises(EngineError, match=r"rank [01]: .*cards of one group are called apart: call 1, trace of"):
        asyncio.run(main())


def test_what_several_cards_cannot_be_is_one_line_before_anything_starts(llama, tiny, card):
    words = (f"model.path={llama}", *SIZES)
    for variables, says in (
        ({"AIU_WORLD_SIZE": "1"}, "AIU_WORLD_SIZE=1 assigns 1; use 1 ranks, or have the orchestrator assign 2 cards"),
        ({"AIU_WORLD_SIZE": "two"}, "AIU_WORLD_SIZE=two must be a number of cards"),
        ({"AIU_WORLD_RANK_0": "0000:1a:00.0"}, "AIU_WORLD_RANK_0=0000:1a:00.0 assigns 1"),
    ):
        with pytest.raises(BackendError, match=says):
            card.resolve(*words, TWO, **variables)
    assert card.resolve(*words, "backend=sendnn_compile_only", "pipeline=precompile", TWO, AIU_WORLD_SIZE="1").run
    with pytest.raises(ConfigError, match="tensor_parallel=4 does not divide the model's num_key_value_heads=2"):
        card.resolve(*words, "parallel.tensor_parallel=4")
    with pytest.raises(ConfigError, match=r"tensor_parallel=2, and engine=pooling on backend=sendnn runs in one"):
        card.resolve(f"model.path={tiny}", TWO)
