"""Whether a vision encoder pays for its compilation, and what its dtype costs: the table of multimodal/README.md.

``python -m tests.benchmarks.encoder_ways [dtype ...]``: four layers of a SigLIP of 1152 (Granite Vision's has 27), with
random weights, over one tile of an image and over five. Both ways are timed in turns, alone on the machine.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.benchmarks.figures import median, spread

SIZES: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
}
TILES, ROUNDS, THREADS = (1, 5), 5, 2
DTYPES = ("float32", "bfloat16", "float16")


def timed_ms(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def row(dtype: str, tiles: int) -> str:
    """Return a row of the table."""
    torch._dynamo.reset()
    config = SiglipVisionConfig(**SIZES, image_size=384, patch_size=14)
    made: Any = SiglipVisionModel(config)
    model = made.eval().to(getattr(torch, dtype))
    compiled: Callable[..., object] = torch.compile(model, dynamic=False)
    pixels = torch.randn(tiles, 3, 384, 384).to(model.dtype)
    with torch.no_grad():
        first_ms = timed_ms(lambda: compiled(pixel_values=pixels))
        model(pixel_values=pixels)
        pairs = [
            (timed_ms(lambda: model(pixel_values=pixels)), timed_ms(lambda: compiled(pixel_values=pixels)))
            for _ in range(ROUNDS)
        ]
    plain, faster = (median([pair[way] for pair in pairs]) for way in (0, 1))
    ratios = [one / other for one, other in pairs]
    return f"| {dtype} | {tiles} | {plain:,.0f} | {faster:,.0f} | {spread(ratios, '.2f')} | {first_ms / 1000:.0f} |"


def main(words: Sequence[str]) -> None:
    """Print the table."""
    torch.set_num_threads(THREADS)
    print("| dtype | tiles | eager ms | compiled ms | ratio | compile s |\n|---|---|---|---|---|---|")
    for dtype in words or DTYPES:
        for tiles in TILES:
            print(row(dtype, tiles), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
