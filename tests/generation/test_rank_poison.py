"""A decoder among two ranks, and a request that breaks its step: alone where all ranks break, else with the engine."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hooks.conftest import site  # noqa: F401  a fixture
from tests.hooks.fake import install_backend
from tests.served import FLOAT32, Served

# The ids of which three in a row break the embedding, everywhere and in the second rank.
EVERYWHERE, APART = 13, 14
FAULTY = f"""
import os
from dataclasses import dataclass
from sendnn_pipeline.backends.base import CompiledProgram
from sendnn_pipeline.backends.eager import EagerBackend
from sendnn_pipeline.config.schema import BackendConfig

def in_a_row(ids, number):
    here = ids == number
    return bool((here[:-2] & here[1:-1] & here[2:]).any())

@dataclass(frozen=True)
class Faulty(CompiledProgram):
    inner: CompiledProgram

    def bind(self, weights):
        call = self.inner.bind(weights)

        def run(ids, positions):
            if in_a_row(ids, {EVERYWHERE}) or (os.environ["RANK"] == "1" and in_a_row(ids, {APART})):
                raise RuntimeError("out of range")
            return call(ids, positions)

        return run

class FaultyBackend(EagerBackend):
    name = "faulty"

    def compile(self, graph):
        compiled = super().compile(graph)
        return Faulty(compiled) if graph.name.startswith("embed") else compiled
"""


@pytest.fixture
def faulty(site):  # noqa: F811
    """Install the backend."""
    return install_backend(site, "faulty", FAULTY, "FaultyBackend")


def complete(served, prompt):
    body = {"prompt": [prompt], "max_tokens": 8, "temperature": 0}
    return served.session.post(f"{served.url}/v1/completions", json=body)


def test_a_poisoned_request_fails_alone_unless_it_leaves_ranks_apart(llama, llama_reference, faulty):
    words = (*FLOAT32, "backend=faulty", f"model.path={llama}", "parallel.tensor_parallel=2", "warmup.remeasure=false")
    prompts = [[40 + number, 9, 30] for number in range(6)]
    poisoned = [7, *[EVERYWHERE] * 3]
    with Served(*words, **faulty) as served, ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda prompt: complete(served, prompt), [*prompts[:3], poisoned, *prompts[3:]]))
        failed = asked.pop(3)
        assert failed.status_code == 500 and "could not be computed" in failed.text
        for prompt, answer in zip(prompts, asked, strict=True):
            wanted = llama_reference.tokenizer.decode(llama_reference.greedy(prompt, 8), skip_special_tokens=True)
            assert answer.status_code == 200 and answer.json()["choices"][0]["text"] == wanted
        assert served.get("/ready").status_code == 200
        # Where only one breaks, the others wait for its part: the engine cannot go on, and says so.
        assert complete(served, [7, *[APART] * 3]).status_code in (500, 503)
        assert served.exit_code(60) == 1
        assert "error: rank 1: the engine failed: RuntimeError: out of range" in served.output
