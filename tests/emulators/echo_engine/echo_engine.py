"""An engine without a model: it answers every text with its own tokens, whole or one a step. No torch."""

import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sendnn_pipeline.backends.base import Graph
from sendnn_pipeline.config.schema import EngineConfig
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.engines.plan import Plan, PlanLine, Step
from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.frontend.bodies import CountOrFitting
from sendnn_pipeline.frontend.call import Work
from sendnn_pipeline.frontend.endpoint import Bench, Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.hooks import hookimpl
from sendnn_pipeline.messages import Cancel, Part, StepDone, StepStarted
from sendnn_pipeline.programs.program import Dim, Program

PROGRAM = Program("echo", (Dim("batch", 8, 1),))


@dataclass(frozen=True, kw_only=True)
class EchoConfig(EngineConfig):
    """Options of ``engine=echo``."""

    step_ms: float = 0.0
    """How long a step takes."""
    stream: bool = False
    """Whether benches ask for streams."""
    fail: str = ""
    """Where it fails: `load`, `compile`, `warmup` or `step`."""
    hang: str = ""
    """Where it stays for good: `load`, `compile`, `warmup` or `step`."""


class Body(msgspec.Struct):
    """Of a request."""

    input: str | list[str]
    model: str | None = None
    stream: bool = False
    truncate_prompt_tokens: CountOrFitting | None = None


class Pieces(msgspec.Struct):
    """What the engine is sent, all pieces of each text, and what it answers, one."""

    texts: list[list[list[int]]]


@dataclass(frozen=True)
class Waiting:
    request_id: int
    piece: list[int]
    ends_text: bool
    ends_request: bool
    since: float


class EchoEngine:
    name, keys = "echo", ("engine.",)

    def claim(self, facts):
        return None

    def resolve(self, draft, limits):
        return

    def plan(self, config, model, limits):
        steps = {PROGRAM: (Step((1,), 1), Step((8,), 8))}
        lines = (PlanLine("engine", f"echo, {config.engine.step_ms:g} ms a step", "engine.step_ms"),)
        sizes = {"max_input_tokens": config.model.max_model_len or 64, "ranks": config.parallel.tensor_parallel}
        return Plan(steps=steps, unit="texts", lines=lines, **sizes)

    def open(self, run, world):
        return EchoCore(run.config.engine, world)


class EchoCore:
    def __init__(self, config, world=World()):  # noqa: B008  frozen
        self.world = world
        self.config, self.waiting, self.wake = config, deque(), os.eventfd(0, os.EFD_NONBLOCK)
        self.seconds = config.step_ms / 1000
        self.come_to("load")

    def come_to(self, where):
        if where == self.config.fail:
            raise EngineError(f"the {where} fails, as it was told to")
        if where == self.config.hang:
            signal.pause()

    def graph(self, program):
        self.come_to("compile")
        return Graph(program, build=lambda: lambda *texts: tuple(texts), inputs=(), outputs=("texts",))

    def install(self, compiled):
        self.call = compiled[PROGRAM].bind({})

    def rehearse(self, program, sizes, *, check):
        self.come_to("warmup")
        began = time.perf_counter()
        assert len(self.call(*[[0]] * sizes[0])) == sizes[0]
        return (time.perf_counter() - began + self.seconds) * 1000

    def start(self, times, send):
        self.send = send

    def take(self, message):
        if isinstance(message, Cancel):
            self.waiting = deque(one for one in self.waiting if one.request_id != message.request_id)
            return
        texts, now = msgspec.msgpack.decode(message.payload, type=Pieces).texts, time.monotonic()
        for left, pieces in zip(reversed(range(len(texts))), texts, strict=True):
            for more, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
                self.waiting.append(Waiting(message.request_id, piece, not more, not more and not left, now))

    def step(self):
        batch = [self.waiting.popleft() for _ in range(min(8, len(self.waiting)))]
        if not batch:
            return False
        self.send(StepStarted([one.request_id for one in batch]))
        self.come_to("step")
        began = time.monotonic()
        if self.world.channel is not None:
            self.world.channel.tell(len(batch))
        self.obey(len(batch))
        pieces, ended = self.call(*(one.piece for one in batch)), time.monotonic()
        tokens, name = sum(map(len, pieces)), PROGRAM.name
        self.send(StepDone(name, len(batch), 8, tokens, tokens, began, ended, len(self.waiting), 0))
        for one, piece in zip(batch, pieces, strict=True):
            payload = msgspec.Raw(msgspec.msgpack.encode(Pieces([[piece]])))
            done, last = int(one.ends_text), one.ends_request
            self.send(Part(one.request_id, payload, done, last, name, 0, one.since, began, ended))
        return bool(self.waiting)

    def meet(self):
        """Join the other ranks: here they share no more than their steps."""

    def obey(self, command):
        """Take part in a step: it takes its time, and ends when all ranks come to its end."""
        time.sleep(self.seconds)
        self.world.meet()

    @property
    def idle(self):
        return not self.waiting

    def about(self):
        return {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}

    def close(self):
        os.close(self.wake)


async def prepare(front, body):
    front.check_model(body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts or not all(texts):
        raise RequestError(400, "input is empty", param="input", code="empty_input")
    cut = front.max_input_tokens if body.truncate_prompt_tokens == -1 else body.truncate_prompt_tokens
    try:
        ids = await front.tokenizer.encode(texts, cut, special=False, fits=front.max_input_tokens)
    except TooLongError as error:
        param = f"input[{error.index}]"
        raise RequestError(400, f"{param} has {error.what}", param=param, code="context_length_exceeded") from None
    for index, item in enumerate(ids):
        if len(item) > front.max_input_tokens:
            message = f"input[{index}] has {len(item)} tokens and {front.max_input_tokens} is the most"
            raise RequestError(400, message, param=f"input[{index}]", code="context_length_exceeded")
    texts = [[[token] for token in item] if body.stream else [item] for item in ids]
    return Prepared(Pieces(texts), Work(len(ids), sum(map(len, ids))))


async def pieces(call):
    async for payload in call:
        yield msgspec.msgpack.decode(payload, type=Pieces).texts[0][0]


async def render(front, body, call):
    echoed = [await front.tokenizer.decode(ids) async for ids in pieces(call)]
    return {"model": front.run.served_name, "data": echoed, "usage": front.usage(call)}


async def stream(front, body, call):
    async for ids in pieces(call):
        yield {"token": await front.tokenizer.decode(ids)}
    yield {"usage": front.usage(call)}


def ask(front, line):
    return ({"input": line["text"]}, frozenset({"text"})) if "text" in line else None


def bench_body(run, items):
    return {"input": list(items.texts), "truncate_prompt_tokens": -1, "stream": run.config.engine.stream}


ECHO = Endpoint(
    Body,
    prepare,
    render,
    stream,
    lines=Lines(ask, lambda body, content: {"echo": content["data"]}),
    bench=Bench(lambda run: True, bench_body),
)


@hookimpl
def config_paths():
    return Path(__file__).parent / "conf"


@hookimpl
def register_schemas(store):
    store("engine", "echo", EchoConfig)


@hookimpl
def register_engines(register):
    register("echo", EchoEngine)


@hookimpl
def register_endpoints(register):
    register("echo", "/v1/echo", ECHO)
