"""The loop of every engine: what it waits for, and when it ends."""

import msgspec

from sendnn_pipeline.engines.loop import IDLE_SECONDS, run_loop
from sendnn_pipeline.messages import Cancel, Drain, Request


class Core:
    """Counts beats; a request is worth ``beats`` of them."""

    wake = 17

    def __init__(self, beats):
        self.beats, self.left, self.taken = beats, 0, []

    def take(self, message):
        self.taken.append(message)
        self.left = self.left + self.beats if isinstance(message, Request) else 0

    def step(self):
        self.left = max(0, self.left - 1)
        return self.left > 0

    @property
    def idle(self):
        return self.left == 0


class Inbox:
    """Gives out prepared messages, and notes how long the loop was ready to wait."""

    def __init__(self, *batches):
        self.batches, self.waits = list(batches), []

    def receive(self, timeout_seconds, wake):
        self.waits.append((timeout_seconds, wake))
        return self.batches.pop(0) if self.batches else []


def request(number):
    return Request(number, 1e9, msgspec.Raw(b"\xc0"))


def test_it_waits_only_while_there_is_nothing_to_do_and_ends_once_nothing_is_left():
    core, inbox = Core(beats=3), Inbox([], [request(1)], [], [Drain()])
    run_loop(core, inbox)
    idle, busy = (IDLE_SECONDS, core.wake), (0.0, core.wake)
    assert inbox.waits == [idle, idle, busy, busy] and core.taken == [request(1)]


def test_what_comes_with_or_after_a_drain_is_still_taken():
    core, inbox = Core(beats=2), Inbox([request(1), Drain(), request(2)], [Cancel(2)])
    run_loop(core, inbox)
    assert core.taken == [request(1), request(2), Cancel(2)] and core.idle


def test_an_idle_engine_ends_at_once():
    inbox = Inbox([Drain()])
    run_loop(Core(beats=1), inbox)
    assert len(inbox.waits) == 1
