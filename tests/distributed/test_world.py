"""Ranks that meet: in threads of one process here, over the same sockets as processes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sendnn_pipeline.distributed import channel
from sendnn_pipeline.distributed.channel import Channel, ChannelAddress, meetings
from sendnn_pipeline.distributed.port import new_address
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.errors import EngineError, RanksApartError


def run_ranks(size, job, wait_seconds=10.0):
    """Return what ``job`` returns or raises in each rank."""
    place = ChannelAddress(new_address(), wait_seconds)

    def work(rank):
        own = Channel(rank, size, place)
        try:
            return job(World(rank, size, own))
        except Exception as error:
            return error
        finally:
            own.close()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, range(size)))


@pytest.mark.parametrize(
    ("world", "limit", "wanted"),
    [
        # The registry's own: ranks of a world of four, so many meetings before and after.
        (4, 1, [(0, 4), (1, 3), (2, 2), (3, 1)]),
        (4, 2, [(0, 2), (0, 2), (1, 1), (1, 1)]),
        (3, 2, [(0, 2), (0, 2), (1, 1)]),
        (4, 0, [(0, 0)] * 4),
        (2, 2, [(0, 0)] * 2),
    ],
)
def test_sets_of_ranks_follow_one_another(world, limit, wanted):
    found = [tuple(map(len, meetings(rank, world, limit))) for rank in range(world)]
    assert found == wanted


def test_at_most_so_many_are_in_the_block_and_all_leave_together():
    inside, most, left, lock = [0], [0], [], threading.Lock()

    def job(world):
        with world.stagger(2):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            with lock:
                inside[0] -= 1
        left.append(inside[0])

    assert run_ranks(4, job) == [None] * 4
    assert most == [2] and left == [0] * 4


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_rank_that_fails_in_its_turn_keeps_nobody_waiting(failing):
    def job(world):
        with world.stagger(1):
            if world.rank == failing:
                raise ValueError("no memory")
        return "loaded"

    found = run_ranks(3, job)
    assert isinstance(found.pop(failing), ValueError) and found == ["loaded"] * 2


def test_a_rank_that_does_not_come_is_named():
    with pytest.raises(EngineError, match="rank 1 did not come within"):
        Channel(0, 2, ChannelAddress(new_address(), 0.1))


def test_the_first_rank_decides_and_the_others_do_what_it_tells_until_dismissed():
    done = []

    def job(world):
        plan = world.broadcast({"rank": world.rank})
        if world.rank:
            world.follow(lambda command: done.append((world.rank, command)))
        else:
            world.channel.tell(["step", 1])
            world.channel.tell(["step", 2])
            world.dismiss()
        return plan

    assert run_ranks(3, job) == [{"rank": 0}] * 3
    assert sorted(done) == [(rank, ["step", step]) for rank in (1, 2) for step in (1, 2)]


@pytest.mark.parametrize("alone", [False, True])
def test_what_fails_in_all_ranks_is_survived_and_what_fails_in_one_is_not(alone, monkeypatch):
    monkeypatch.setattr(channel, "TOGETHER_SECONDS", 0.3)

    def obey(command):
        if command == "poison":
            raise ValueError("poisoned")

    def job(world):
        if world.rank:
            return world.follow(obey)
        world.channel.tell("poison")
        together = alone or world.channel.failed_together()
        if alone:
            time.sleep(0.6)
        world.channel.tell("more")
        world.dismiss()
        return together

    first, *others = run_ranks(3, job)
    assert first is True
    assert [type(one) for one in others] == [ValueError if alone else type(None)] * 2


@pytest.mark.parametrize("after", ["step", None])
def test_a_rank_that_fails_alone_in_what_nobody_confirms_ends(after, monkeypatch):
    """Neither the next command nor a dismissal is taken for the word that all have failed."""
    monkeypatch.setattr(channel, "TOGETHER_SECONDS", 5.0)

    def obey(command):
        if command == "rows":
            raise ValueError("not on this device")

    def job(world):
        if world.rank:
            return world.follow(obey)
        world.channel.tell("rows")
        time.sleep(0.2)
        with pytest.raises(RanksApartError, match="rank 1 failed and others did not"):
            world.channel.silent_seconds()
        return world.channel.tell(after)

    first, other = run_ranks(2, job)
    assert first is None and isinstance(other, ValueError)
