"""How long the probes take while the model loads and while the engine is saturated.

``python -m tests.benchmarks.probes [key=value ...]`` starts a real server, polls ``/live`` and ``/ready`` over
fresh connections as a kubelet does, and prints percentiles. Clients run in a process of their own.
"""

import http.client
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable

import httpx
import numpy as np

from tests.served import Served

SECONDS = 20.0
PAUSE_SECONDS = 0.02
CLIENTS = 16
TEXTS = ["a text of middling length that many clients send at once, over and over " * 2] * 8


def poll(url: str, until: Callable[[], bool]) -> dict[str, list[float]]:
    """Ask both probes in turn until told to stop, and return the milliseconds of each answer."""
    taken: dict[str, list[float]] = {"/live": [], "/ready": []}
    while not until():
        for probe, times in taken.items():
            began = time.perf_counter()
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
            connection.request("GET", probe)
            connection.getresponse().read()
            connection.close()
            times.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    return taken


def saturate(url: str, seconds: float) -> None:
    """Keep CLIENTS requests under way for ``seconds``."""
    import asyncio

    async def client(session: httpx.AsyncClient, ends: float) -> None:
        while time.monotonic() < ends:
            await session.post(f"{url}/v1/embeddings", json={"input": TEXTS}, timeout=60)

    async def clients() -> None:
        ends = time.monotonic() + seconds
        async with httpx.AsyncClient() as session:
            await asyncio.gather(*(client(session, ends) for _ in range(CLIENTS)))

    asyncio.run(clients())


def report(when: str, taken: dict[str, list[float]]) -> None:
    """Print percentiles."""
    for probe, times in taken.items():
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{when:<16}{probe:<8}n={len(times):<6}p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   max {max(times):6.1f} ms")


def main() -> None:
    """Measure both situations on one server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Served(*sys.argv[1:], f"serve.port={port}", wait=False) as served:
        url = served.url = f"http://127.0.0.1:{port}"
        served.wait_line("load …")
        report("loading", poll(url, lambda: ", ready in" in served.output))
        load = multiprocessing.get_context("spawn").Process(target=saturate, args=(url, SECONDS))
        load.start()
        while not running(served):
            time.sleep(0.05)
        ends = time.monotonic() + SECONDS - 5
        report("saturated", poll(url, lambda: time.monotonic() > ends))
        load.join()


def running(served: Served) -> bool:
    """Return whether the engine computes now."""
    lines = served.get("/metrics").text.splitlines()
    return any(line.startswith("vllm:num_requests_running{") and not line.endswith(" 0.0") for line in lines)


if __name__ == "__main__":
    main()
