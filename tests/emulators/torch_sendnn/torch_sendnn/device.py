"""The state of the card in this process: what is traced, compiled and deployed, in which order."""

import hashlib
import os
import signal
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from torch_sendnn import cache
from torch_sendnn.environment import CARD_BYTES, DISABLE_COMPILATION, Environment
from torch_sendnn.errors import DeviceError
from torch_sendnn.kv import KvMemory
from torch_sendnn.ranks import check_collectives, check_same

if TYPE_CHECKING:
    from torch_sendnn.graph import DeviceGraph


class Device:
    """One card. A process has one, and one kind of graphs on it."""

    def __init__(self) -> None:
        self.environment = Environment(os.environ)
        self.dynamic: bool | None = None
        self.warming = self.entered = False
        self.traced: list[DeviceGraph] = []
        self.to_deploy: deque[DeviceGraph] = deque()
        self.deployed: list[DeviceGraph] = []
        self.kv = KvMemory()
        self.calls = 0
        self.compiled = self.cache_hits = 0
        """Sets of graphs that were compiled together, and that the cache had."""

    def start_warmup(self) -> None:
        """Begin to collect graphs."""
        self.environment.check_unchanged()
        if self.warming:
            raise DeviceError("warmup_mode is not re-entrant, and was made while another is not left")
        if self.deployed or self.to_deploy:
            raise DeviceError("warmup_mode a second time: graphs compiled apart share nothing")
        self.warming = True

    def trace(self, graph: "DeviceGraph") -> None:
        """Take a graph that dynamo found."""
        self.environment.check_unchanged()
        self.environment.check_complete(dynamic=graph.dynamic)
        self.environment.check_group()
        check_collectives(graph.module)
        if self.dynamic not in (None, graph.dynamic):
            raise DeviceError("static and dynamic graphs in one process: the flag of the last one counts for all")
        self.dynamic = graph.dynamic
        if self.warming and not self.entered:
            raise DeviceError("warmup_mode was made and not entered")
        if not self.warming:
            raise DeviceError("a graph was met outside warmup_mode: it would be compiled now, for minutes")
        self.traced.append(graph)
        if graph.dynamic and len(self.traced) > 2:
            raise DeviceError("a third dynamic graph: there are prefill and decode, whatever the sizes")

    def compile(self) -> None:
        """Compile what was traced, all together."""
        self.warming = self.entered = False
        graphs, self.traced = self.traced, []
        if not graphs:
            return
        self._check_memory(graphs)
        captured = self.environment.captured
        if cache.has(graphs, captured):
            self.cache_hits += 1
        elif captured.get(DISABLE_COMPILATION) == "true":
            raise RuntimeError("Compilation disabled")
        else:
            cache.keep(graphs, captured)
            self.compiled += 1
        for graph in graphs:
            graph.compiled = True
        self.to_deploy = deque(graphs)

    def before_run(self, graph: "DeviceGraph") -> None:
        """Deploy at the first run; handles are consumed first in, first out, whichever graph runs."""
        self.check_same("run", graph)
        if not graph.compiled:
            raise DeviceError("a graph runs that was traced and never compiled")
        if self.environment.compiles_only:
            raise DeviceError("FLEX_DEVICE=COMPILE, and a graph is to run: there is no card")
        if not self.to_deploy:
            return
        if self.to_deploy[0] is not graph:
            raise DeviceError("graphs are deployed in another order than they were traced in")
        self.to_deploy.popleft()
        if not self.deployed:
            take_signals()
        self.deployed.append(graph)

    def check_same(self, what: str, graph: "DeviceGraph") -> None:
        """Refuse a call that other cards of the group do not make."""
        self.calls += 1
        check_same(f"call {self.calls}, {what} of {hashlib.sha256(graph.text.encode()).hexdigest()[:8]}")

    def _check_memory(self, graphs: "list[DeviceGraph]") -> None:
        card = self.environment.captured.get(CARD_BYTES)
        tensors: dict[int, Any] = {}
        for graph in graphs:
            tensors |= graph.resident
        needed = sum(tensor.nbytes for tensor in tensors.values())
        if card is not None and needed > int(card):
            raise DeviceError(f"out of device memory: {needed} bytes of {card}")


def take_signals() -> None:
    """Install the handlers of the runtime's logger, as its first use does."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, fatal_signal)


def fatal_signal(number: int, frame: object) -> None:
    """Do what the logger does with any signal."""
    sys.stderr.write(f"FATAL SIGNAL {number} RECEIVED\n")
    sys.stderr.flush()
    os._exit(128 + number)


device = Device()
