"""Texts a second on mixed lengths, against other engines in turns.

``python -m tests.benchmarks.offline [PEERS_FOLDER] [key=value ...]``, after ``python -m tests.benchmarks.peers.build
PEERS_FOLDER``; without the folder ours runs alone. Every peer is first tried at several settings and then runs at its
best one, alternating with ours and with a matrix product of the run's dtype, which gives the machine's peak at that
moment. With all peers it takes about ten minutes alone on the machine.
"""

import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sendnn_pipeline.engines.run import Run
from tests.benchmarks.ours import Ours
from tests.benchmarks.peers.peer import Peer, Setting
from tests.benchmarks.workload import mixed_texts
from tests.conftest import resolved_run
from tests.reference import mean_pooled

NUM_TEXTS, TRIAL_TEXTS, ROUNDS = 512, 128, 5


def settings(threads: int) -> dict[str, list[Setting]]:
    """Return the ways to try each peer."""
    one = {"threads": threads}
    st = [
        Setting(
            f"{kind} batch {size}", "plain", "sentence_transformers_peer.py", one | {"dtype": kind, "batch_size": size}
        )
        for kind, size in (("float32", 8), ("float32", 32), ("bfloat16", 16))
    ]
    ort = [Setting(f"batch {size}", "plain", "onnx_runtime_peer.py", one | {"batch_size": size}) for size in (4, 8)]
    ov = [
        Setting(
            f"{kind} batch {size}, {streams} streams",
            "plain",
            "openvino_peer.py",
            one | {"batch_size": size, "streams": streams, "precision": kind},
        )
        for kind, size, streams in (("f32", 8, 1), ("f32", 8, threads), ("bf16", 8, threads))
    ]
    vllm = [
        Setting(kind, "vllm", "vllm_cpu_peer.py", one | {"dtype": kind, "batch_tokens": 8192})
        for kind in ("float32", "bfloat16")
    ]
    return {"sentence-transformers": st, "ONNX Runtime": ort, "OpenVINO": ov, "vllm-cpu": vllm}


def gemm_peak(dtype: str) -> float:
    """Return the most GFLOP/s of a feed-forward product of our sizes, in the dtype of the run."""
    import torch

    kind = getattr(torch, dtype)
    rows, weight = torch.randn(1024, 384, dtype=kind), torch.randn(1536, 384, dtype=kind)
    best = min(_timed(lambda: torch.nn.functional.linear(rows, weight)) for _ in range(20))
    return 2 * 1024 * 384 * 1536 / best / 1e9


def _timed(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def flops(run, lengths) -> float:
    """Return the floating-point operations of the products on real tokens."""
    width, wide, layers = run.model.hidden_size, 4 * run.model.hidden_size, run.model.num_layers
    return sum(2 * layers * n * (4 * width * width + 2 * width * wide + 2 * n * width) for n in lengths)


def main() -> None:
    """Print the table."""
    words = sys.argv[1:]
    root = Path(words.pop(0)) if words and "=" not in words[0] else None
    threads = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    resolved = resolved_run(["model=minilm", "backend=inductor", *words])
    with Ours(resolved) as ours:
        compare(ours, resolved.run, settings(threads) if root else {}, root or Path(), threads)


def compare(ours: Ours, run: Run, ways_of: dict[str, list[Setting]], root: Path, threads: int) -> None:
    """Run all in turns."""
    texts, model, dtype = mixed_texts(NUM_TEXTS), run.model.folder, run.config.model.dtype
    expected = mean_pooled(model, texts)
    lengths = [len(encoding.ids) for encoding in ours.tokenizer.encode_batch(texts)]
    print(f"{len(texts)} texts, {sum(lengths)} tokens, median {statistics.median(lengths):.0f}; {threads} threads")
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name, ways in ways_of.items():
            found = {}
            for way in ways:
                with Peer(root, way, model) as peer:
                    peer.embed(texts[:TRIAL_TEXTS])
                    seconds, _ = peer.embed(texts[:TRIAL_TEXTS])
                found[way] = TRIAL_TEXTS / seconds
                print(f"trial {name} {way.name}: {found[way]:.1f} texts/s", flush=True)
            best = max(found, key=lambda way: found[way])
            peers[f"{name}, {best.name}"] = stack.enter_context(Peer(root, best, model))
        rates: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
        cosines: dict[str, np.ndarray] = {}
        peaks, shares = [], []
        for _ in range(ROUNDS):
            peak = gemm_peak(dtype)
            seconds = _timed(lambda: cosines.update(ours=ours.embed(texts)))
            peak = max(peak, gemm_peak(dtype))
            peaks.append(peak)
            shares.append(flops(run, lengths) / seconds / 1e9 / peak)
            rates["ours"].append(len(texts) / seconds)
            for name, peer in peers.items():
                seconds, cosines[name] = peer.embed(texts)
                rates[name].append(len(texts) / seconds)
    print(
        "\n| engine | texts/s, median (spread) | ours over it, median of pairs (spread) | cosine to fp32: mean, worst |"
    )
    print("|---|---|---|---|")
    for name, found in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(rates["ours"], found, strict=True)]
        near = (cosines[name].astype(np.float64) * expected).sum(axis=1)
        print(
            f"| {name} | {statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f}) | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{near.mean():.6f}, {near.min():.6f} |"
        )
    padding = 1 - ours.real_tokens / ours.computed_tokens
    print(
        f"\nours: padding {padding:.1%} of computed tokens; {statistics.median(shares):.0%} of the {dtype} GEMM peak "
        f"({statistics.median(peaks):.0f} GFLOP/s) on real tokens"
    )


if __name__ == "__main__":
    main()
