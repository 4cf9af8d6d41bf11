"""What HTTP costs: the rate at saturation against the offline rate, and one small request against the bare forward.

``python -m tests.benchmarks.serving [key=value ...]``. Both run in turns; the one that waits is stopped.
"""

import asyncio
import multiprocessing
import os
import signal
import statistics
import sys
import time

import httpx
import psutil

from tests.benchmarks.ours import Ours
from tests.benchmarks.workload import mixed_texts
from tests.conftest import resolved_run
from tests.served import Served

NUM_TEXTS, TEXTS_A_REQUEST, CLIENTS, ROUNDS, SINGLES = 512, 8, 16, 5, 100
SMALL = "a short question about shapes"


def saturate(url: str, texts: list[str]) -> float:
    """Send all texts from CLIENTS clients and return the seconds until the last answer."""

    async def run() -> float:
        requests = [texts[start : start + TEXTS_A_REQUEST] for start in range(0, len(texts), TEXTS_A_REQUEST)]
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=120, limits=limits) as session:

            async def client() -> None:
                while requests:
                    body = {"input": requests.pop(), "encoding_format": "base64", "truncate_prompt_tokens": -1}
                    (await session.post(f"{url}/v1/embeddings", json=body)).raise_for_status()

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            return time.perf_counter() - began

    return asyncio.run(run())


def singles(url: str) -> list[float]:
    """Return the milliseconds of single small requests over one connection, one after the other."""
    times = []
    with httpx.Client(timeout=60) as session:
        for _ in range(SINGLES):
            began = time.perf_counter()
            session.post(f"{url}/v1/embeddings", json={"input": SMALL}).raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
    return times


def main() -> None:
    """Print both comparisons."""
    words = ["model=minilm", "backend=inductor", *sys.argv[1:]]
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    texts = mixed_texts(NUM_TEXTS)
    rates, ratios, added, forwards = [], [], [], []
    context = multiprocessing.get_context("spawn")
    with Ours(resolved_run(words)) as ours, Served(*words) as served, context.Pool(1) as pool:
        server = [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children(recursive=True)]
        pool.apply(saturate, (served.url, texts))
        for _ in range(ROUNDS):
            for process in server:
                process.send_signal(signal.SIGSTOP)
            began = time.perf_counter()
            ours.embed(texts)
            offline = time.perf_counter() - began
            bare = []
            for _ in range(SINGLES):
                began = time.perf_counter()
                ours.embed([SMALL])
                bare.append((time.perf_counter() - began) * 1000)
            for process in server:
                process.send_signal(signal.SIGCONT)
            online = pool.apply(saturate, (served.url, texts))
            rates.append((len(texts) / online, len(texts) / offline))
            ratios.append(offline / online)
            forwards.append(statistics.median(bare))
            added.append(statistics.median(pool.apply(singles, (served.url,))) - forwards[-1])
    print(f"{CLIENTS} clients, {TEXTS_A_REQUEST} texts a request, {NUM_TEXTS} texts, {ROUNDS} rounds")
    online, offline = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"HTTP {online:.1f} texts/s, offline {offline:.1f}: "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(
        f"one small request adds {statistics.median(added):.1f} ms ({min(added):.1f} to {max(added):.1f}) "
        f"to a forward of {statistics.median(forwards):.1f} ms"
    )


if __name__ == "__main__":
    main()
