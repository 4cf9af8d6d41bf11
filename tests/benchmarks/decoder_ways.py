"""The ways in which a token more of SmolLM2 can be compiled, side by side: the second table of programs/README.md.

``python -m tests.benchmarks.decoder_ways [float32|bfloat16]`` compiles in a process each, then times them in turns:
alone on the machine, about five minutes. A step is thirty layers, without head, over full blocks.
"""

import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from unittest.mock import patch

SIZES = [(1, 4), (8, 32), (32, 128), (64, 256)]
ONE, LAYERS, STORED = "a layer of one row, written out", "a layer, packed products", "a layer, products as stored"
WHOLE, EAGER = "whole graph, frozen", "eager"
WAYS = (ONE, LAYERS, STORED, WHOLE, EAGER)
ROUNDS = 5


def made(way, dtype):
    """Return a step as a function, the seconds to compile it, and those to bind it."""
    import torch

    from sendnn_pipeline.backends.base import Graph, Input
    from sendnn_pipeline.distributed.world import World
    from sendnn_pipeline.generation.model.decoder import TokenLayer
    from sendnn_pipeline.generation.runner import Layer, make_caches
    from tests.conftest import resolved_run

    backend = "eager" if way == EAGER else "inductor"
    words = [
        "model=smollm2",
        f"backend={backend}",
        f"model.dtype={dtype}",
        "cache.num_blocks=300",
        "model.max_model_len=2048",
    ]
    resolved = resolved_run(words)
    run, core = resolved.run, resolved.engine.open(resolved.run, World())
    program, caches = run.plan.decode_one("") if way == ONE else run.plan.decode(""), make_caches(run)
    graph = core.graph(program)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.causal = core.graphs.causal

        def forward(self, hidden, *others):
            shared, pairs = others[:6], others[6:]
            for layer in range(len(caches)):
                (hidden,) = TokenLayer(self.causal, layer)(hidden, *shared, *pairs[2 * layer : 2 * layer + 2])
            return (hidden,)

    if way == WHOLE:
        pairs = [tensor for pair in caches for tensor in pair]
        written = [Input(f"cache_{index}", tensor, written=True) for index, tensor in enumerate(pairs)]
        graph = Graph(program, Whole, (*graph.inputs[:7], *written), graph.outputs, dtype)
    with ExitStack() as patched:
        if way == STORED:
            patched.enter_context(patch("sendnn_pipeline.backends.packing.packs", lambda _: False))
        graph.function  # noqa: B018  the model is loaded before the clock runs
        began = time.perf_counter()
        compiled = resolved.backend.compile(graph)
        compile_s = time.perf_counter() - began
    began = time.perf_counter()
    if way == WHOLE:
        call = compiled.bind(core.weights)
        layers = None
    else:
        from sendnn_pipeline.generation.layers import LayerWeights

        layers = [
            Layer(None, None, compiled.bind(LayerWeights(core.weights, index)), cache)
            for index, cache in enumerate(caches)
        ]
    bind_s = time.perf_counter() - began

    def step(inputs):
        hidden, *shared = inputs
        with torch.no_grad():
            if layers is None:
                return call(hidden, *shared, *pairs)
            for layer in layers:
                (hidden,) = layer.decode_one(hidden, *shared, *layer.cache)
        return (hidden,)

    return step, compile_s, bind_s


def inputs_of(rows, blocks, dtype):
    """Return the inputs of a full step."""
    import torch

    each = blocks // rows
    tables = torch.arange(blocks) % 299 + 1
    starts = (torch.arange(each) * 64).repeat(rows)
    positions = torch.full((rows,), each * 64 - 1)
    hidden = torch.randn(rows, 576, generator=torch.Generator().manual_seed(0))
    slots = tables.view(rows, each)[:, -1] * 64 + 63
    firsts = torch.arange(rows) * each
    return hidden, positions, slots, tables, torch.arange(rows).repeat_interleave(each), starts, firsts


def serve(way, dtype):
    """Compile, then time a step for every line of standard input that names one."""
    step, compile_s, bind_s = made(way, dtype)
    print(f"{compile_s:.1f} {bind_s * 1000:.0f}", flush=True)
    for line in sys.stdin:
        inputs = inputs_of(*SIZES[int(line)], dtype)
        step(inputs)
        began = time.perf_counter()
        step(inputs)
        print((time.perf_counter() - began) * 1000, flush=True)


def main(dtype):
    """Print the table."""
    pipes = {}
    heads = {}
    for way in WAYS:
        command = [sys.executable, "-m", __spec__.name, dtype, way]
        pipes[way] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        heads[way] = pipes[way].stdout.readline().split()
    sizes = range(len(SIZES))
    times = {(way, size): [] for way in WAYS for size in sizes if way != ONE or SIZES[size][0] == 1}
    for _ in range(ROUNDS):
        for (way, size), taken in times.items():
            pipes[way].stdin.write(f"{size}\n")
            pipes[way].stdin.flush()
            taken.append(float(pipes[way].stdout.readline()))
    print(f"| {dtype} | compile s | bind ms | " + " | ".join(f"{r} rows, {b} blocks" for r, b in SIZES) + " |")
    print("|---|---|---|" + "---|" * len(SIZES))
    for way in WAYS:
        cells = []
        for size in sizes:
            taken = times.get((way, size))
            cells.append(f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})" if taken else "")
        print(f"| {way} | {' | '.join(heads[way])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        serve(sys.argv[2], sys.argv[1])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "bfloat16")
