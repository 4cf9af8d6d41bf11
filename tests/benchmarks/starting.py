"""Time to ready, cold, warm and from artifacts, and what the engine takes in memory against its plan.

``python -m tests.benchmarks.starting [key=value ...]``: rounds of a fresh process that imports torch and maps the
weights, one that loads them through transformers, and our server from artifacts; then one cold start.
"""

import statistics
import subprocess
import sys
import tempfile
import time

from tests.conftest import resolved_run
from tests.served import Served

ROUNDS = 5
MAPPED = "import torch, sys; from safetensors.torch import load_file; load_file(sys.argv[1] + '/model.safetensors')"
LOADED = "import torch, sys; from transformers import AutoModel; AutoModel.from_pretrained(sys.argv[1])"


def ready(*words: str) -> tuple[float, dict]:
    """Start a server, and return the seconds until it is ready, and its /info."""
    began = time.perf_counter()
    with Served(*words) as served:
        seconds = time.perf_counter() - began
        return seconds, served.get("/info").json()


def script(code: str, folder: str) -> float:
    """Return the seconds that a fresh interpreter takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print both."""
    words = ["model=minilm", "backend=inductor", *sys.argv[1:]]
    run = resolved_run(words).run
    folder = str(run.model.folder)
    ready(*words)
    mapped, loaded, ours = [], [], []
    for _ in range(ROUNDS):
        mapped.append(script(MAPPED, folder))
        loaded.append(script(LOADED, folder))
        seconds, info = ready(*words)
        assert info["startup"]["programs_compiled"] == 0
        ours.append(seconds)
    for name, peer in (("torch, weights mapped", mapped), ("torch, weights by transformers", loaded)):
        ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
        print(
            f"from artifacts {statistics.median(ours):.2f} s, {name} {statistics.median(peer):.2f} s: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print("phases from artifacts:", info["startup"]["phases_seconds"])
    with tempfile.TemporaryDirectory() as store:
        seconds, cold = ready(*words, f"artifacts.dir={store}/a")
    print(f"cold {seconds:.1f} s, phases: {cold['startup']['phases_seconds']}")
    planned = sum(run.plan.memory_bytes.values())
    for name, start in (("cold", cold), ("from artifacts", info)):
        engine = start["engine"]
        grown = engine["resident_bytes"] - engine["runtime_bytes"]
        print(
            f"memory {name}: resident {engine['resident_bytes'] / 2**20:.0f} MiB, of which torch "
            f"{engine['runtime_bytes'] / 2**20:.0f}; the rest {grown / 2**20:.0f} against {planned / 2**20:.0f} MiB "
            f"planned: {grown / planned:.2f}"
        )


if __name__ == "__main__":
    main()
