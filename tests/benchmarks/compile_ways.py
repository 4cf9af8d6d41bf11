"""The ways in which inductor can compile and keep a Program, side by side: the table of programs/README.md.

``python -m tests.benchmarks.compile_ways [float32|bfloat16]`` runs each way in a process of its own, on MiniLM and on
a decoder of SmolLM2's sizes with random weights. Alone on the machine it takes about ten minutes. The name of a way
behind the dtype runs that one, and prints it as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import psutil

SIZES = [(1, 32), (32, 32), (8, 128), (4, 256)]
DECODER_SIZES = [(1, 32), (1, 256), (8, 64)]
JIT = {"eager": None, "jit fixed": False, "jit fixed, frozen": True}
AOT = {
    "aot fixed": (False, False),
    "aot fixed, frozen": (False, True),
    "aot range": (True, False),
    "aot range, frozen": (True, True),
}
LAYERS = {"decoder: whole graph": False, "decoder: one layer reused": True}
RUNS = 7


def encoder(dtype):
    """MiniLM with its pooling, and inputs of a size."""
    import torch

    from sendnn_pipeline.models.loader import load_encoder
    from sendnn_pipeline.pooling.model import PooledModel
    from tests.conftest import resolved_run

    folder = resolved_run(["model=minilm", "backend=eager", f"model.dtype={dtype}"]).run.model.folder
    generator = torch.Generator().manual_seed(0)

    def inputs(batch, length):
        ids = torch.randint(1, 30000, (batch, length), generator=generator)
        return ids, torch.ones(batch, length, dtype=torch.int64)

    return PooledModel(load_encoder(folder, dtype), "mean").eval(), inputs


def decoder(dtype):
    """The layers of a Llama of SmolLM2-135M's sizes, without embedding and head, and inputs of a size."""
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        attn_implementation="sdpa",
    )
    config._attn_implementation = "sdpa"
    kind = getattr(torch, dtype)
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(LlamaDecoderLayer(config, index).to(kind) for index in range(30))
    rotary = LlamaRotaryEmbedding(config)

    class Layer(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, hidden, cos, sin):
            found = self.layer(hidden, position_embeddings=(cos, sin))
            return found[0] if isinstance(found, tuple) else found

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(Layer(layer) for layer in layers)

        def forward(self, hidden, cos, sin):
            for layer in self.layers:
                hidden = layer(hidden, cos, sin)
            return hidden

    def inputs(batch, length):
        hidden = torch.randn(batch, length, 576, dtype=kind)
        cos, sin = rotary(hidden, torch.arange(length)[None].expand(batch, -1))
        return hidden, cos, sin

    return Whole().eval().requires_grad_(False), inputs


def resident_mib():
    """Resident size of this process."""
    return psutil.Process().memory_info().rss / 2**20


def timed(function, given):
    """Return the median of a few runs in milliseconds, after one that does not count."""
    function(*given)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        function(*given)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[RUNS // 2]


class Library:
    """An AOTInductor library over tensors that are shared where it is not frozen; counts what it took to make."""

    def __init__(self, module, example, ranges, frozen):
        import torch
        import torch._inductor

        began = time.perf_counter()
        exported = torch.export.export(module, example, dynamic_shapes=ranges, strict=False)
        options = {
            "freezing": frozen,
            "aot_inductor.package_constants_in_so": frozen,
            "cpp.dynamic_threads": True,
            "always_keep_tensor_constants": not frozen,
        }
        with tempfile.TemporaryDirectory() as folder:
            package = torch._inductor.aoti_compile_and_package(
                exported, package_path=f"{folder}/p.pt2", inductor_configs=options
            )
            self.compile_s = time.perf_counter() - began
            with zipfile.ZipFile(package) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(".so")]
                library = Path(folder) / "p.so"
                library.write_bytes(archive.read(member))
            self.mib = library.stat().st_size / 2**20
            began = time.perf_counter()
            self.runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
            self.open_ms = (time.perf_counter() - began) * 1000
        self.tensors = {} if frozen else {**exported.state_dict, **exported.constants}
        self.names = self.runner.get_constant_names_to_original_fqns()
        self.use({} if frozen else {original: self.tensors[original] for original in self.names.values()})

    def use(self, tensors):
        """Read these tensors from now on, by the names they were exported with."""
        if tensors:
            constants = {name: tensors[original] for name, original in self.names.items()}
            self.runner.update_constant_buffer(constants, False, True, True)

    def __call__(self, *given):
        return self.runner.run(list(given))[0]


def check_layers(function, module, given):
    """Fail where the compiled layers compute otherwise, by more than what the dtype rounds."""
    import torch

    from tests.reference import Rounding

    found, eager = function(*given), module(*given)
    if eager.dtype == torch.float32:
        assert torch.allclose(found, eager, atol=1e-2), "the compiled layers compute otherwise"
        return
    exact = module.float()(*(part.float() for part in given))
    Rounding(exact.double().numpy(), eager.double().numpy()).check(found.double().numpy())


def measure(way, dtype):
    """Return the row of one way."""
    import torch
    import torch._inductor.config as inductor_config

    torch.set_grad_enabled(False)
    row = {"way": way, "compile_s": 0.0, "open_ms": 0.0, "mib": 0.0, "ms": {}}
    if way in LAYERS:
        module, inputs = decoder(dtype)
        before = resident_mib()
        batch, length = torch.export.Dim("batch", max=8), torch.export.Dim("length", max=256)
        ranges = ({0: batch, 1: length}, {0: batch, 1: length}, {0: batch, 1: length})
        parts = [module.layers[0]] if LAYERS[way] else [module]
        library = Library(parts[0], inputs(4, 16), ranges, False)

        def function(hidden, cos, sin):
            if not LAYERS[way]:
                return library(hidden, cos, sin)
            for layer in module.layers:
                library.use(dict(layer.named_parameters()))
                hidden = library(hidden, cos, sin)
            return hidden

        row |= {"compile_s": library.compile_s, "open_ms": library.open_ms, "mib": library.mib}
        sizes = DECODER_SIZES
    else:
        module, inputs = encoder(dtype)
        before, sizes, function = resident_mib(), SIZES, None
        if way in AOT and AOT[way][0]:
            batch, length = torch.export.Dim("batch", max=128), torch.export.Dim("length", max=256)
            given = ({0: batch, 1: length}, {0: batch, 1: length})
            function = Library(module, inputs(3, 24), given, AOT[way][1])
            row |= {"compile_s": function.compile_s, "open_ms": function.open_ms, "mib": function.mib}
    for size in sizes:
        given = inputs(*size)
        call = function
        if way in JIT:
            torch._dynamo.reset()
            began = time.perf_counter()
            call = module if way == "eager" else torch.compile(module, fullgraph=True, dynamic=False)
            with inductor_config.patch(freezing=bool(JIT[way])):
                call(*given)
            row["compile_s"] += time.perf_counter() - began
        elif function is None:
            call = Library(module, given, None, AOT[way][1])
            row["compile_s"] += call.compile_s
            row["open_ms"] += call.open_ms
            row["mib"] += call.mib
        row["ms"]["x".join(map(str, size))] = timed(call, given)
    row["resident_mib"] = resident_mib() - before
    if way in LAYERS:
        check_layers(function, module, inputs(2, 16))
    return row


def main():
    """Print the table."""
    dtype = sys.argv[1] if len(sys.argv) > 1 else "float32"
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[2], dtype)))
        return
    print(f"| {dtype} | compile s | open ms | on disk MiB | resident MiB | ms of a step (batch x length) |")
    print("|---|---|---|---|---|---|")
    for way in (*JIT, *AOT, *LAYERS):
        with tempfile.TemporaryDirectory() as cache:
            environ = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
            command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.compile_ways", dtype, way]
            ended = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        if ended.returncode:
            print(f"| {way} | failed: {ended.stderr.strip().splitlines()[-1][:120]} | | | | |")
            continue
        row = json.loads(ended.stdout.splitlines()[-1])
        steps = ", ".join(f"{size} {ms:.1f}" for size, ms in row["ms"].items())
        print(
            f"| {way} | {row['compile_s']:.1f} | {row['open_ms']:.1f} | {row['mib']:.1f} | "
            f"{row['resident_mib']:.0f} | {steps} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
