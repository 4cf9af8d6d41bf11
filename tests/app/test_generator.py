"""Generation from Python."""

import pytest

from sendnn_pipeline import Embedder, Generator, RequestError
from sendnn_pipeline.errors import ConfigError
from tests.served import EAGER_FLOAT32


def test_texts_and_chats_are_those_of_the_routes(llama, llama_reference):
    with Generator(*EAGER_FLOAT32, f"model.path={llama}", "scheduler.max_num_seqs=4") as generator:
        ids = llama_reference.tokenizer("The assert statement")["input_ids"]
        wanted = llama_reference.tokenizer.decode(llama_reference.greedy(ids, 12), skip_special_tokens=True)
        assert generator.generate("The assert statement", temperature=0, max_tokens=12) == [wanted]
        assert generator.generate(["The assert statement"] * 2, temperature=0, max_tokens=12) == [wanted] * 2
        messages = [{"role": "user", "content": "Hello"}]
        assert generator.chat(messages, temperature=0, max_tokens=5) == generator.chat(
            messages, seed=3, top_k=1, max_tokens=5
        )
        assert generator.generate("x", guided_choice=["one"]) == ["one"]
        schema = {"name": "x", "schema": {"const": 5}}
        assert generator.chat(messages, response_format={"type": "json_schema", "json_schema": schema}) == "5"
        with pytest.raises(RequestError, match=r"guided_regex is not usable.*unclosed character class"):
            generator.generate("x", guided_regex="[")
        with pytest.raises(RequestError, match="temperature"):
            generator.generate("x", temperature=-1)
        with pytest.raises(TypeError, match="no field temprature; did you mean temperature"):
            generator.generate("x", temprature=1)


@pytest.mark.parametrize(("door", "other"), [(Generator, "Embedder"), (Embedder, "Generator")])
def test_a_model_of_another_engine_is_refused_before_it_is_loaded(door, other, tiny, llama):
    model = tiny if door is Generator else llama
    with pytest.raises(ConfigError, match=rf"{door.__name__} asks for /v1/.* has not; use {other}"):
        door(*EAGER_FLOAT32, f"model.path={model}").start()
