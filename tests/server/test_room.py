"""Which clients are given up, and which go when more come."""

from dataclasses import dataclass, field

from sendnn_pipeline.server.room import FOR_PROBES, Room, Wait


@dataclass(eq=False)
class Client:
    wait: tuple | None = None
    is_silent: bool = False
    is_idle: bool = False
    is_leaving: bool = False
    given_up: list = field(default_factory=list)

    def waits(self):
        return self.wait

    def give_up(self, wait, seconds):
        self.given_up.append((wait, seconds))

    def leave(self):
        self.is_leaving = True


ONE, OTHER = object(), object()


def room(size=3):
    return Room(size, {Wait.head: 1.0, Wait.body: 2.0, Wait.reading: 3.0})


def test_a_wait_is_given_up_after_its_time_and_not_before():
    watched, client = room(), Client((Wait.body, ONE, 0))
    for now in (10, 11, 11.9):
        watched.look([client], now)
    assert not client.given_up
    watched.look([client], 12)
    assert client.given_up == [(Wait.body, 2.0)]


def test_another_request_is_another_wait():
    watched, client = room(), Client((Wait.head, ONE, 0))
    watched.look([client], 0)
    for now, wait in (
        (0.9, (Wait.head, OTHER, 0)),
        (1.8, (Wait.body, OTHER, 0)),
        (3.7, None),
        (4, (Wait.body, OTHER, 0)),
    ):
        client.wait = wait
        watched.look([client], now)
    assert not client.given_up


def test_a_stream_that_is_read_slowly_goes_on():
    watched, client = room(), Client()
    for now in range(0, 20, 2):
        client.wait = (Wait.reading, ONE, 1000 - now)
        watched.look([client], now)
    assert not client.given_up
    watched.look([client], 21)
    assert client.given_up == [(Wait.reading, 3.0)]


def enter(watched, *others):
    client = Client()
    return watched.enter(client, {client, *others}), client.is_leaving


def test_who_asks_for_nothing_goes_first_then_who_has_its_answers_then_the_slowest():
    watched = room()
    silent, idle, slow, slower = Client(is_silent=True, is_idle=True), Client(is_idle=True), Client(), Client()
    slower.wait = (Wait.body, ONE, 0)
    watched.look([slow, slower], 0)
    slow.wait = (Wait.body, OTHER, 0)
    watched.look([slow, slower], 1)
    others = [slow, idle, slower, silent]
    for gone in (silent, idle, slower, slow):
        assert enter(watched, *others) == (True, False)
        assert [other for other in (silent, idle, slower, slow) if other.is_leaving][-1] is gone
        others = [other if not other.is_leaving else Client() for other in others]
    assert enter(watched, *others) == (False, False)


def test_those_who_leave_take_no_place_and_there_is_an_end_to_the_places_for_probes():
    watched = room()
    busy = [Client() for _ in range(2)]
    assert enter(watched, *busy, *(Client(is_leaving=True) for _ in range(9))) == (True, False)
    assert enter(watched, *(Client() for _ in range(3 + FOR_PROBES - 1))) == (False, False)
    assert enter(watched, *(Client() for _ in range(3 + FOR_PROBES))) == (False, True)
