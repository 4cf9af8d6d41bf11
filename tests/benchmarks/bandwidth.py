"""How fast this machine reads memory: ``python -m tests.benchmarks.bandwidth MEBIBYTES`` prints GB/s."""

import sys
import time

ROUNDS = 12


def read_bandwidth(num_bytes: int) -> float:
    """Return the bytes a second at which all threads read ``num_bytes`` again and again, at their fastest."""
    import torch

    numbers = torch.ones(num_bytes // 4)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - began)
    return num_bytes / best


if __name__ == "__main__":
    print(f"{read_bandwidth(int(sys.argv[1]) * 2**20) / 1e9:.2f}")
