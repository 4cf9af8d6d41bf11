"""What several ranks cost on one machine: prefill against threads, a step's exchange, start and memory.

``python -m tests.benchmarks.ranks [part=PART] [shape=1b|tiny] [rounds=N] [tokens=N] [key=value ...]``; further words
are those of our command line. The model is a Llama of that shape with random weights, in bfloat16. Parts, all of them
unless one is named:

- ``prefill``: two ranks with a thread each against one with two threads, in turns; and a token more, likewise.
- ``exchange``: what a step costs beside computing: told to the other rank, and sums over both.
- ``start``: seconds to ready and memory for 1, 2 and 4 ranks, cold and warm, all at once and one after the other.
"""

import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

from sendnn_pipeline.distributed.ranks import start_ranks
from sendnn_pipeline.messages import StageEvent
from tests.benchmarks.figures import spread
from tests.conftest import resolved_run
from tests.served import Served

PARTS = ("prefill", "exchange", "start")
POSITIONS, CPUS = 4096, 2
SHAPES: dict[str, dict[str, int]] = {
    # Llama 3.2 1B.
    "1b": {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
    "tiny": {"vocab_size": 1000, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
}
HEADS = {"1b": (32, 8), "tiny": (8, 4)}
START_SECONDS, SAMPLE_SECONDS = 1800.0, 0.1
ANSWER_TOKENS = 33


def make_model(folder: Path, shape: str) -> Path:
    """Write a Llama with random weights, and a tokenizer of a word a token."""
    heads, kv_heads = HEADS[shape]
    sizes = {**SHAPES[shape], "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    config = LlamaConfig(**sizes, max_position_embeddings=POSITIONS, tie_word_embeddings=True)
    torch.manual_seed(0)
    LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    words = {f"t{index}": index for index in range(1000)}
    Tokenizer(models.WordLevel(words, unk_token="t3")).save(str(folder / "tokenizer.json"))
    return folder


def words_of(model: Path, caches: Path, ranks: int, words: Sequence[str]) -> list[str]:
    """Return the words of a server of so many ranks, which share the CPUs."""
    common = ["model=local", f"model.path={model}", "model.dtype=bfloat16", "engine.prefix_caching=false"]
    sizes = [f"model.max_model_len={POSITIONS}", "scheduler.max_num_seqs=8", f"process.num_cpus={CPUS}"]
    return [*common, *sizes, f"parallel.tensor_parallel={ranks}", f"cache_dir={caches}", *words]


def prefill(model: Path, caches: Path, rounds: int, tokens: int, words: Sequence[str]) -> None:
    """Print tokens a second of a prompt, and milliseconds of a token more, and what two ranks keep of them."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    token_ms: dict[int, list[float]] = {1: [], 2: []}
    chooser = random.Random(0)
    with ExitStack() as stack:
        servers = {
            ranks: stack.enter_context(Served(*words_of(model, caches, ranks, words), seconds=START_SECONDS))
            for ranks in rates
        }
        for _ in range(rounds + 1):
            prompt = [chooser.randrange(4, 1000) for _ in range(tokens)]
            for ranks, served in servers.items():
                first = _seconds(served, prompt, 1)
                rates[ranks].append(tokens / first)
                token_ms[ranks].append((_seconds(served, prompt, ANSWER_TOKENS) - first) / (ANSWER_TOKENS - 1) * 1000)
    # The first round warms up.
    for what, found, two_over_one in (("tokens a second of a prompt", rates, True), ("ms a token", token_ms, False)):
        one, two = found[1][1:], found[2][1:]
        shares = [b / a if two_over_one else a / b for a, b in zip(one, two, strict=True)]
        print(f"{what}: 1 rank of {CPUS} threads {spread(one, '.1f')}, 2 of one each {spread(two, '.1f')}")
        print(f"  two ranks keep {spread(shares, '.0%')} of the speed")


def _seconds(served: Served, prompt: list[int], most: int) -> float:
    body = {"prompt": [prompt], "max_tokens": most, "temperature": 0, "ignore_eos": True}
    began = time.perf_counter()
    served.session.post(f"{served.url}/v1/completions", json=body, timeout=600).raise_for_status()
    return time.perf_counter() - began


def exchange(model: Path, words: Sequence[str]) -> None:
    """Print what two ranks take to tell a step and to sum."""
    run = resolved_run(words_of(model, model / "caches", 2, [*words, "backend=eager"])).run

    async def follow() -> None:
        ranks = start_ranks("tests.benchmarks.rank_jobs:exchange", run, {"OMP_NUM_THREADS": "1"})
        try:
            async for message in ranks.messages():
                if isinstance(message, StageEvent):
                    print(f"  {message.detail}")
        finally:
            ranks.kill()

    layers = run.model.num_layers
    print(f"exchange of 2 ranks; a step has one told, and {2 * layers} sums, two for each of {layers} layers:")
    asyncio.run(follow())


class Memory(threading.Thread):
    """Samples the memory of a server's ranks until told to stop."""

    def __init__(self, served: Served) -> None:
        super().__init__(daemon=True)
        self.served, self.stopping = served, threading.Event()
        self.together = 0
        """Most of all ranks at one time, what they share counted once."""
        self.peaks: dict[int, int] = {}
        """Most of each rank by itself, by process."""

    def run(self) -> None:
        """Sample."""
        while not self.stopping.wait(SAMPLE_SECONDS):
            together = 0
            for child in psutil.Process(self.served.process.pid).children():
                try:
                    if "spawn_main" in " ".join(child.cmdline()):
                        found = child.memory_full_info()
                        together += found.pss
                        self.peaks[child.pid] = max(self.peaks.get(child.pid, 0), found.uss)
                except psutil.Error:
                    continue
            self.together = max(self.together, together)


def start(model: Path, rounds: int, words: Sequence[str]) -> None:
    """Print seconds to ready and peaks of memory."""
    print("start: seconds to ready; peak of all ranks together, and of the largest by itself, in MiB")
    for ranks, limit in ((1, 0), (2, 0), (2, 1), (4, 0), (4, 1)):
        found: dict[str, list[tuple[float, ...]]] = {"cold": [], "warm": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                variables = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
                more = [*words, *([f"parallel.max_load_processes={limit}"] if limit else [])]
                mine = words_of(model, Path(folder), ranks, more)
                for taken in found.values():
                    taken.append(_started(mine, variables))
        turns = "one after the other" if limit else "all at once"
        for kind, taken in found.items():
            seconds, together, largest = ([row[index] for row in taken] for index in range(3))
            memory = f"{spread(together, '.0f')} together, {spread(largest, '.0f')} the largest"
            print(f"  {ranks} ranks {turns:<20}{kind}: {spread(seconds, '.1f')} s; {memory}", flush=True)


def _started(words: Sequence[str], variables: dict[str, str]) -> tuple[float, float, float]:
    began = time.perf_counter()
    with Served(*words, wait=False, seconds=START_SECONDS, **variables) as served:
        memory = Memory(served)
        memory.start()
        served.wait_ready()
        taken = time.perf_counter() - began
        memory.stopping.set()
        memory.join()
    return taken, memory.together / 2**20, max(memory.peaks.values(), default=0) / 2**20


def main() -> None:
    """Measure what the words say."""
    options: dict[str, Any] = {"part": "", "shape": "1b", "rounds": "5", "tokens": "1024"}
    named = dict(word.split("=", 1) for word in sys.argv[1:])
    options |= {name: named.pop(name) for name in options if name in named}
    words, rounds = [f"{name}={value}" for name, value in named.items()], int(options["rounds"])
    parts = [options["part"]] if options["part"] else PARTS
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", options["shape"])
        if "prefill" in parts:
            prefill(model, Path(folder) / "caches", rounds, int(options["tokens"]), words)
        if "exchange" in parts:
            exchange(model, words)
        if "start" in parts:
            start(model, rounds, words)


if __name__ == "__main__":
    main()
