"""The card of this process, and the environment as it was when the package was imported."""

import hashlib
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

PREFIXES = ("VLLM_DT_", "TORCH_SENDNN_", "FLEX_", "DT_", "DTCOMPILER_", "AIU_", "SENCORE", "COMPILATION_", "DISABLE_")
LIMITS = ("CHUNK_LEN", "MAX_CONTEXT_LEN", "MAX_BATCH_SIZE", "MAX_BATCH_TKV_LIMIT")


class RuleBroken(AssertionError):
    pass


def rule(holds, says):
    if not holds:
        raise RuleBroken(says)


def environment():
    return {name: text for name, text in os.environ.items() if name.startswith(PREFIXES)}


class Card:
    def __init__(self):
        self.env = environment()
        self.collecting, self.decoders = False, None
        self.graphs, self.pending, self.ready = [], [], []
        self.compilations = self.hits = 0
        self.blocks, self.ghosts, self.dead = None, {}, []

    def unchanged(self):
        now = environment()
        changed = sorted(name for name in {*now, *self.env} if now.get(name) != self.env.get(name))
        rule(not changed, f"set after torch_sendnn was imported: {changed}")

    def limit(self, name):
        text = self.env.get(f"VLLM_DT_{name}")
        rule(text is not None and text.isdecimal() and int(text) > 0, f"VLLM_DT_{name} is {text}")
        return int(text)

    @property
    def without_device(self):
        return self.env.get("FLEX_DEVICE") == "COMPILE"

    def begin(self):
        self.unchanged()
        rule(not self.collecting and not self.graphs, "warmup_mode again")
        self.collecting = True

    def collect(self, graph):
        self.unchanged()
        rule(self.collecting, "a graph is met outside warmup_mode and would be compiled while somebody waits")
        rule(self.decoders in (None, graph.dynamic), "sendnn.dynamic counts for all graphs of a process")
        self.decoders = graph.dynamic
        mode, frame = ("offline_decoder", "true") if graph.dynamic else ("offline", "false")
        rule(self.env.get("COMPILATION_MODE") == mode, f"COMPILATION_MODE={self.env.get('COMPILATION_MODE')}")
        rule(self.env.get("FLEX_OVERWRITE_NMB_FRAME") == frame, "FLEX_OVERWRITE_NMB_FRAME")
        for name in LIMITS if graph.dynamic else LIMITS[1:]:
            self.limit(name)
        rule(self.limit("MAX_BATCH_SIZE") >= 2, "VLLM_DT_MAX_BATCH_SIZE is at least 2")
        rule(not graph.dynamic or self.limit("CHUNK_LEN") % 64 == 0, "a chunk is whole blocks")
        self.graphs.append(graph)
        rule(not graph.dynamic or len(self.graphs) <= 2, "prefill and decode, and no third")

    def compile(self):
        self.collecting = False
        if not self.graphs:
            return
        if not self._is_cached():
            if self.env.get("DISABLE_COMPILATION") == "true":
                raise RuntimeError("Compilation disabled")
            self.compilations += 1
            self._cache()
        self.pending = list(self.graphs)

    def deploy(self, graph):
        """The clean-up of first runs takes handles in the order of the traces, whoever runs."""
        rule(not self.without_device, "FLEX_DEVICE=COMPILE has no device to run on")
        rule(graph in self.ready or graph in self.pending, "a graph that was never compiled")
        if not self.pending:
            return
        rule(self.pending[0] is graph, "not the next one in the order of the traces")
        if not self.ready and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT):
                signal.signal(number, lambda number, _: os._exit(64 + number))
        self.ready.append(self.pending.pop(0))

    def _entry(self):
        if self.env.get("TORCH_SENDNN_CACHE_ENABLE", "0") == "0":
            return None
        rule(self.env["TORCH_SENDNN_CACHE_ENABLE"] == "1", "TORCH_SENDNN_CACHE_ENABLE is 0 or 1")
        parts = [len(self.graphs), *(self.env.get(f"VLLM_DT_{name}") for name in LIMITS)]
        key = hashlib.sha256("\n".join([*map(str, parts), *(graph.text for graph in self.graphs)]).encode())
        return Path(self.env["TORCH_SENDNN_CACHE_DIR"]) / "spyre" / key.hexdigest()[:12]

    def _is_cached(self):
        entry = self._entry()
        if entry is None or not (entry / "whole").exists():
            return False
        self.hits += 1
        _note_use(entry)
        return True

    def _cache(self):
        entry = self._entry()
        if entry is not None:
            entry.mkdir(parents=True, exist_ok=True)
            for index, graph in enumerate(self.graphs):
                (entry / f"graph-{index}.bin").write_bytes(graph.text.encode())
            (entry / "whole").touch()
            _note_use(entry)


def _note_use(entry):
    """Write down who used it last, as libraries do, where it can be written."""
    with suppress(OSError), (entry.parent / "used.log").open("a") as log:
        log.write(f"{entry.name} {os.getpid()}\n")


card = Card()
