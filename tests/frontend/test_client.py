"""The engine's client against a port that is told what to say: counters, parts, deadlines, failures, draining."""

import asyncio
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from sendnn_pipeline.frontend import client as module
from sendnn_pipeline.frontend import heard
from sendnn_pipeline.frontend.call import Work
from sendnn_pipeline.frontend.client import EngineClient
from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.heard import STALLED_SECONDS, STALLED_STEPS
from sendnn_pipeline.messages import (
    Alive,
    Cancel,
    Drain,
    EngineLost,
    MeasuredStep,
    Part,
    Ready,
    Request,
    RequestFailed,
    StepDone,
    StepStarted,
)
from sendnn_pipeline.observe.metrics import Metrics

MAX_QUEUE = 12
READY = Ready([MeasuredStep("p[n=1]", {"n": 1}, 100, 50.0)], True, 0, {})


class Asked(msgspec.Struct):
    """What the engine is sent."""

    number: int


@dataclass
class Port:
    """Remembers what goes to the engine."""

    sent: list = field(default_factory=list)

    async def send(self, message):
        self.sent.append(message)

    def of(self, kind):
        return [message for message in self.sent if isinstance(message, kind)]


@dataclass
class Counted:
    """A client, its port, and what its metrics say."""

    port: Port
    metrics: Metrics
    client: EngineClient

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def gauges(self):
        labels = {"model_name": "m", "engine": "0"}
        return tuple(self.value(f"vllm:num_requests_{what}", **labels) for what in ("running", "waiting"))


def counted(*, ready=True):
    port, metrics = Port(), Metrics(CollectorRegistry(), "m", 64)
    made = Counted(port, metrics, EngineClient(port, metrics, MAX_QUEUE, "texts"))
    if ready:
        made.client.handle(READY)
    return made


def part(request_id, number, num_items, last):
    payload = msgspec.Raw(msgspec.msgpack.encode(number))
    return Part(request_id, payload, num_items, last, "p[n=1]", 0, 1.0, 2.0, 3.0)


async def settle():
    for _ in range(8):
        await asyncio.sleep(0)


@dataclass
class Asker:
    """One request as whoever asks sees it, and as the test knows that it has to be."""

    num_items: int
    stays: bool
    """Whether it remains in its block when the answer is whole, as one that still writes does."""
    left: int = 0
    running: bool = False
    sent: list = field(default_factory=list)
    got: list = field(default_factory=list)
    status: int | None = None
    """Of the error that it has to end with; 0 for being cancelled."""
    written: asyncio.Event = field(default_factory=asyncio.Event)
    request_id: int = -1
    task: asyncio.Task | None = None

    @property
    def whole(self):
        return not self.left

    @property
    def counts(self):
        return self.status is None and (not self.whole or (self.stays and not self.written.is_set()))

    async def ask(self, client, deadline):
        async with client.open(Asked(7), Work(self.num_items, 10 * self.num_items), deadline) as call:
            self.request_id = call.request_id
            async for payload in call:
                self.got.append(msgspec.msgpack.decode(payload))
            if self.stays:
                await self.written.wait()


indices = st.integers(0, 50)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, MAX_QUEUE + 1), st.booleans(), st.sampled_from([False] * 5 + [True])),
        st.tuples(st.just("start"), indices),
        st.tuples(st.just("part"), indices, st.integers(0, 4)),
        st.tuples(st.just("fail"), indices, st.sampled_from(["failed", "deadline"])),
        st.tuples(st.just("cancel"), indices),
        st.tuples(st.just("written"), indices),
        st.tuples(st.just("late word"), indices),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps, st.sampled_from(["die", "drain", "go on"]))
@example([("open", 3, False, False), ("start", 0), ("part", 0, 1), ("cancel", 0), ("late word", 0)], "die")
def test_whatever_happens_in_whatever_order(steps, end):
    asyncio.run(Interleaving(counted()).play(steps, end))


class Interleaving:
    """Plays steps on a client, and compares it with what it has to be after each."""

    def __init__(self, counted):
        self.counted, self.client, self.port = counted, counted.client, counted.port
        self.askers, self.refused, self.cancels = [], 0, set()
        self.ended_early = {"client_gone": 0, "deadline": 0}
        module.DEADLINE_GRACE_SECONDS = 0.0

    async def play(self, steps, end):
        try:
            for step in steps:
                await getattr(self, f"do_{step[0].replace(' ', '_')}")(*step[1:])
                await settle()
                self.check()
            await getattr(self, f"end_{end.replace(' ', '_')}")()
            await settle()
            self.check()
        finally:
            module.DEADLINE_GRACE_SECONDS = 1.0
            for asker in self.askers:
                asker.task.cancel()
            await asyncio.gather(*(asker.task for asker in self.askers), return_exceptions=True)

    def check(self):
        counting = [asker for asker in self.askers if asker.counts]
        assert self.client.num_requests == len(counting)
        assert self.client.num_running == sum(asker.running for asker in counting)
        assert self.client.num_items == sum(asker.left for asker in counting)
        running = sum(asker.running for asker in counting)
        assert self.counted.gauges == (running, len(counting) - running)
        for asker in self.askers:
            assert asker.got == asker.sent[: len(asker.got)], "parts come in their order"
            assert asker.task.done() == (not asker.counts)
            if asker.status is None:
                assert asker.got == asker.sent
            elif not asker.status:
                assert asker.task.cancelled()
            else:
                assert asker.task.exception().status == asker.status
        assert [message.request_id for message in self.port.of(Request)] == [a.request_id for a in self.askers]
        assert {message.request_id for message in self.port.of(Cancel)} == self.cancels
        assert len(self.port.of(Cancel)) == len(self.cancels)
        for stage, count in self.ended_early.items():
            assert self.counted.value("sendnn_pipeline:cancelled_total", stage=stage) == count

    def live(self, index):
        """Return one that the engine still works for."""
        live = [asker for asker in self.askers if asker.status is None and not asker.whole]
        return live[index % len(live)] if live else None

    async def do_open(self, num_items, stays, late):
        asker = Asker(num_items, stays, left=num_items)
        queued = sum(other.left for other in self.askers if other.counts)
        asker.task = asyncio.create_task(asker.ask(self.client, 0.0 if late else math.inf))
        if queued + num_items > MAX_QUEUE:
            await settle()
            assert asker.task.exception().status == (400 if num_items > MAX_QUEUE else 429)
            return
        self.askers.append(asker)
        if late:
            # The engine says nothing of it.
            await settle()
            asker.status = 504
            self.ended_early["deadline"] += 1
            self.cancels.add(asker.request_id)

    async def do_start(self, index):
        if (asker := self.live(index)) is not None:
            asker.running = True
            self.client.handle(StepStarted([asker.request_id, 10**6]))

    async def do_part(self, index, num_items):
        if (asker := self.live(index)) is not None:
            num_items = min(num_items, asker.left)
            asker.left -= num_items
            asker.sent.append(len(asker.sent))
            self.client.handle(part(asker.request_id, asker.sent[-1], num_items, not asker.left))

    async def do_fail(self, index, reason):
        if (asker := self.live(index)) is not None:
            asker.status = 504 if reason == "deadline" else 500
            self.ended_early["deadline"] += reason == "deadline"
            self.client.handle(RequestFailed(asker.request_id, reason, 0, "it failed"))

    async def do_cancel(self, index):
        counting = [asker for asker in self.askers if asker.counts]
        if counting:
            asker = counting[index % len(counting)]
            if not asker.whole:
                self.cancels.add(asker.request_id)
            asker.status = 0
            self.ended_early["client_gone"] += 1
            asker.task.cancel()

    async def do_written(self, index):
        if self.askers:
            self.askers[index % len(self.askers)].written.set()

    async def do_late_word(self, index):
        """Say something of a request that is over."""
        over = [asker for asker in self.askers if not asker.counts]
        if over:
            request_id = over[index % len(over)].request_id
            self.client.handle(part(request_id, 99, 1, False))
            self.client.handle(StepStarted([request_id]))
            self.client.handle(RequestFailed(request_id, "failed", -1, "too late"))

    async def end_die(self):
        for asker in self.askers:
            if asker.status is None and not asker.whole:
                asker.status = 503
        self.client.die("it was killed")
        self.client.die("a second reason")
        assert self.client.unavailable() == "the engine is gone: it was killed"
        with pytest.raises(RequestError, match="it was killed") as caught:
            self.client.admit(1)
        assert caught.value.status == 503 and caught.value.retry_after_seconds

    async def end_drain(self):
        counting = [asker for asker in self.askers if asker.counts]
        for asker in counting:
            if not asker.whole:
                asker.status = 503
        assert await self.client.drain(0.0) == len(counting)
        assert len(self.port.of(Drain)) == 1

    async def end_go_on(self):
        """What is left is answered."""
        for asker in self.askers:
            if asker.status is None and asker.left:
                num_items, asker.left = asker.left, 0
                asker.sent.append(1000)
                self.client.handle(part(asker.request_id, 1000, num_items, True))


def test_an_engine_that_is_silent_past_the_deadline(monkeypatch):
    """504 after the deadline and the time that the engine has for its own word on it; then the engine is told."""
    monkeypatch.setattr(module, "DEADLINE_GRACE_SECONDS", 0.02)
    made = counted()

    async def ask(seconds, *parts):
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(RequestError) as caught:
            async with made.client.open(Asked(1), Work(2, 20), loop.time() + seconds) as call:
                for number in parts:
                    made.client.handle(part(call.request_id, number, 1, False))
                async for payload in call:
                    got.append(msgspec.msgpack.decode(payload))
        return loop.time() - began, caught.value

    got = []
    seconds, error = asyncio.run(ask(0.03, 5))
    assert (error.status, error.code) == (504, "deadline_exceeded") and 0.05 <= seconds < 5 and got == [5]
    assert [message.request_id for message in made.port.of(Cancel)] == [0] and made.client.num_items == 0
    assert made.value("sendnn_pipeline:cancelled_total", stage="deadline") == 1


def test_a_request_that_is_answered_in_time_never_expires(monkeypatch):
    monkeypatch.setattr(module, "DEADLINE_GRACE_SECONDS", 0.0)
    made = counted()

    async def ask():
        async with made.client.open(Asked(1), Work(1, 1), asyncio.get_running_loop().time() + 0.02) as call:
            made.client.handle(part(call.request_id, 5, 1, True))
            got = [msgspec.msgpack.decode(payload) async for payload in call]
            # Still in its block, as one that writes, when the deadline passes.
            await asyncio.sleep(0.04)
        return got

    assert asyncio.run(ask()) == [5] and made.port.of(Cancel) == []
    assert made.value("sendnn_pipeline:cancelled_total", stage="deadline") == 0


def test_what_is_sent_to_the_engine():
    made = counted()

    async def ask():
        async with made.client.open(Asked(3), Work(2, 20), 1e9):
            pass

    asyncio.run(ask())
    request, cancel = made.port.sent
    assert isinstance(request, Request) and request.deadline == 1e9
    assert msgspec.msgpack.decode(request.payload, type=Asked) == Asked(3)
    # Whoever leaves before the answer is whole takes it out of the queue, without an error.
    assert isinstance(cancel, Cancel) and cancel.request_id == request.request_id


def test_what_is_refused_at_the_door_says_why():
    made = counted(ready=False)

    def refusal(num_items=1):
        with pytest.raises(RequestError) as caught:
            made.client.admit(num_items)
        return caught.value

    loading = refusal()
    assert loading.status == 503 and "still loading" in loading.message and loading.retry_after_seconds == 5
    made.client.handle(READY)
    made.client.admit(MAX_QUEUE)
    assert refusal(MAX_QUEUE + 1).message == "input asks for 13 texts, and the whole queue holds 12 (serve.max_queue)"

    async def beside():
        async with made.client.open(Asked(1), Work(10, 4000), math.inf):
            full = refusal(3)
            assert full.status == 429
            assert full.message == "10 texts have no answer yet and 3 more would exceed serve.max_queue=12"
            # At 100 tokens in 50 ms, 4000 take two seconds.
            assert full.retry_after_seconds == 2

    asyncio.run(beside())
    made.client.draining = True
    assert "shutting down" in refusal().message
    reasons = {"unavailable": 2, "too_many": 1, "queue_full": 1}
    for reason, count in reasons.items():
        assert made.value("sendnn_pipeline:rejected_total", reason=reason) == count


def test_draining_waits_for_what_is_under_way_and_takes_nothing_new():
    made = counted()

    async def ask():
        async with made.client.open(Asked(1), Work(1, 1), math.inf) as call:
            return [msgspec.msgpack.decode(payload) async for payload in call]

    async def drain():
        asking = asyncio.create_task(ask())
        await settle()
        draining = asyncio.create_task(made.client.drain(60.0))
        await settle()
        assert not draining.done() and made.port.of(Drain) == []
        with pytest.raises(RequestError, match="shutting down"):
            await ask()
        made.client.handle(part(0, 5, 1, True))
        assert await asking == [5] and await draining == 0

    asyncio.run(drain())
    assert isinstance(made.port.sent[-1], Drain) and made.client.dead is None


def test_an_engine_that_is_silent_while_requests_wait_is_stalled(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(heard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made = counted()

    async def ask():
        assert made.client.stalled() is None
        now[0] += 1000
        # Nobody waited: silence meant nothing, and the time that counts begins with the request.
        async with made.client.open(Asked(1), Work(1, 1), math.inf):
            now[0] += STALLED_SECONDS
            assert made.client.stalled() is None
            now[0] += 1
            assert made.client.stalled() == "requests wait and the engine has been silent for 31 s"
            made.client.handle(StepDone("p[n=1]", 1, 1, 1, 1, 0.0, 1.0, 0, 0))
            assert made.client.stalled() is None
            # Where steps take long, so may silence.
            made.client.handle(Ready([MeasuredStep("p[n=1]", {"n": 1}, 100, 10_000.0)], True, 0, {}))
            now[0] += STALLED_STEPS * 10
            assert made.client.stalled() is None
            now[0] += 1
            assert made.client.stalled() is not None
        assert made.client.stalled() is None

    asyncio.run(ask())


def test_a_loop_that_goes_round_answers_nothing(monkeypatch):
    """A step in a thread of its own may hang beside it; and a first request begins to wait when it comes."""
    now = [1000.0]
    monkeypatch.setattr(heard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made = counted()

    def beat(seconds):
        now[0] += seconds
        made.client.handle(Alive([0.0]))

    async def ask():
        beat(STALLED_SECONDS * 3)
        async with made.client.open(Asked(1), Work(1, 1), math.inf):
            beat(STALLED_SECONDS)
            assert made.client.stalled() is None
            beat(1)
            assert made.client.stalled() == "requests wait and the engine has been silent for 31 s"
        assert made.client.stalled() is None

    asyncio.run(ask())


def test_a_rank_that_is_silent_is_named_also_when_nobody_waits(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(heard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client = counted().client
    client.handle(StepDone("p[n=1]", 1, 1, 1, 1, 0.0, 1.0, 0, 0))
    client.handle(Alive([0.0, 0.5, STALLED_SECONDS - 1]))
    assert client.stalled() is None
    now[0] += 2
    client.handle(Alive([0.0, 1.0, STALLED_SECONDS + 1]))
    assert client.stalled() == "rank 2 has been silent for 31 s; the last step ended 2 s ago"
    client.handle(Alive([0.0, 0.0, 0.0]))
    assert client.stalled() is None
    now[0] += STALLED_SECONDS + 1
    assert client.stalled() == "the engine has been silent for 31 s; the last step ended 33 s ago"
    # Of another engine nothing is known yet.
    client.handle(EngineLost("it died", 1, 5, 1.0))
    assert client.stalled() is None and "is started again (1 of 5) after it died" in client.unavailable()
    client.handle(Ready([], True, 0, {}))
    assert client.stalled() is None and client.unavailable() is None


def test_waiting_for_an_engine_ends_when_it_is_warm_and_not_when_it_is_gone():
    async def wait(message):
        made = counted(ready=False)
        waiting = asyncio.create_task(made.client.wait_ready())
        await settle()
        assert not waiting.done()
        if message is None:
            made.client.die("it failed")
        else:
            made.client.handle(message)
        await settle()
        ended = waiting.done()
        waiting.cancel()
        return ended

    assert asyncio.run(wait(READY)) and not asyncio.run(wait(None))
