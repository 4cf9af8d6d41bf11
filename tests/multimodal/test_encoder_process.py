"""Images in a process of their own: what comes of them, and that nothing holds up or brings down anything else."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from sendnn_pipeline.errors import EngineError
from sendnn_pipeline.multimodal import encoded_apart
from sendnn_pipeline.multimodal.encoded_apart import open_apart
from sendnn_pipeline.multimodal.encoder_process import Ended, Rows, start_encoder
from sendnn_pipeline.multimodal.row_cache import RowCache
from sendnn_pipeline.multimodal.shared_rows import MAX_NAME, memory_name, read_rows, write_rows
from sendnn_pipeline.multimodal.wire import Dropped, EncoderSpec, Failed, Opened
from sendnn_pipeline.multimodal.worker import DroppedError, Pictures
from tests.conftest import resolved_run
from tests.generation.cores import Core
from tests.multimodal.test_vision_models import GREEDY, encoded
from tests.multimodal.vision_models import file_of, make_vision_model, picture
from tests.served import EAGER_FLOAT32

WORDS = [*EAGER_FLOAT32, "scheduler.max_num_seqs=4", "scheduler.chunk_size=64", "multimodal.dtype=float32"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rows_in_shared_memory_are_the_same_to_the_bit_and_leave_nothing(dtype):
    # Every pattern of 16 bits, those that are not numbers among them.
    rows = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).reshape(-1, 64)
    names = {memory_name(bytes([seed]) * 32) for seed in range(9)}
    assert len(names) == 9 and max(map(len, names)) <= MAX_NAME
    before = len([*Path("/proc/self/fd").iterdir()])
    mapped = read_rows(write_rows(memory_name(b"a" * 32), rows), list(rows.shape), str(dtype).removeprefix("torch."))
    assert mapped.dtype == dtype and mapped.shape == rows.shape
    assert torch.equal(mapped.view(torch.uint8), rows.view(torch.uint8))
    mapped[0] = 1  # its own
    del mapped
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert "sendnn-rows" not in Path("/proc/self/maps").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_vision_model(tmp_path_factory.mktemp("vision"), "mistral3")


@pytest.fixture(scope="module")
def core(folder):
    made = Core(resolved_run([*WORDS, f"model.path={folder}", "multimodal.max_pixels=100000000"]))
    yield made
    made.core.close()


@pytest.fixture
def fresh(core):
    core.messages.clear()
    yield core
    core.drain()
    desk = core.core.pictured.desk
    assert core.core.images.rows == {} == core.core.pictured._waiting
    assert not desk._jobs and not desk._waiting


def run_until(core, done, seconds=60):
    """Make steps until something is so."""
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        if not core.core.step():
            select.select([core.core.wake], [], [], 0.05)


def test_a_process_encodes_what_this_one_would(fresh, folder):
    sync = Core(resolved_run([*WORDS, f"model.path={folder}", "multimodal.async_encoder=false"]))
    files = [file_of(picture(40, 40)), file_of(picture(64, 20, 3))]
    ids, images = encoded(fresh, "[IMG]", files)
    for core in (fresh, sync):
        core.ask(1, [ids], GREEDY, 8, images=images, n=2)
        core.drain()
    assert len(fresh.tokens(1)) == 8 and fresh.tokens(1) == fresh.tokens(1, 1) == sync.tokens(1)
    assert fresh.outputs(1)[0][0].logprobs[0].logprob == sync.outputs(1)[0][0].logprobs[0].logprob
    sync.core.close()
    # What was encoded before is there at once, and nothing is sent.
    fresh.ask(2, [ids], GREEDY, 2, images=images)
    assert not fresh.core.pictured.desk._sent
    fresh.drain()
    assert fresh.tokens(2) == sync.tokens(1)[:2]


def test_text_overtakes_and_never_waits(fresh):
    ids, images = encoded(fresh, "[IMG]", [file_of(picture(90, 90, 2))], "{}")
    encoder = psutil.Process(fresh.core.pictured.desk.process.pid)
    encoder.suspend()
    fresh.ask(1, [ids], GREEDY, 2, images=images)
    fresh.ask(2, [[5, 6, 7]], GREEDY, 20)
    run_until(fresh, lambda: len(fresh.tokens(2)) == 20)
    assert fresh.tokens(1) == [], "the image, which came first, is still encoded"
    encoder.resume()
    fresh.drain()
    assert len(fresh.tokens(1)) == 2 and fresh.failures() == {}


def test_what_cannot_be_encoded_fails_alone(fresh):
    ids, images = encoded(fresh, "[IMG]", [file_of(picture(48, 40, 7))], "{}")
    broken = [type(images[0])(b"no image", b"another" * 4, images[0].num_rows)]
    fresh.ask(1, [ids], GREEDY, 4, images=broken)
    fresh.ask(2, [ids], GREEDY, 4, images=images)
    fresh.drain()
    assert fresh.failures().keys() == {1} and "UnidentifiedImageError" in fresh.failures()[1].message
    assert len(fresh.tokens(2)) == 4


def test_a_killed_process_fails_what_it_encoded_and_is_started_again(fresh, caplog):
    desk = fresh.core.pictured.desk
    first = desk.process.pid
    ids, images = encoded(fresh, "[IMG]", [file_of(picture(90, 90, 6)), file_of(picture(40, 44, 8))])
    psutil.Process(first).suspend()
    fresh.ask(1, [ids], GREEDY, 2, images=images)
    other, own = encoded(fresh, "[IMG]", [file_of(picture(44, 40, 9))], "{}")
    fresh.ask(2, [other], GREEDY, 3, images=own)
    fresh.ask(3, [[5, 6, 7]], GREEDY, 20)
    fresh.core.step()
    os.kill(first, signal.SIGKILL)
    run_until(fresh, lambda: len(fresh.tokens(3)) == 20 and desk.process.pid != first)
    run_until(fresh, lambda: 1 in fresh.failures())
    assert fresh.failures()[1].message.startswith("the process that encodes images was killed by SIGKILL")
    # The picture that had not begun is encoded by the next one.
    fresh.drain()
    assert fresh.failures().keys() == {1} and len(fresh.tokens(2)) == 3
    assert "it is started again" in caplog.text
    assert not psutil.pid_exists(first)


def test_a_hundred_dropped_requests_leave_nothing_and_hold_up_nobody(fresh, monkeypatch):
    desk, memory = fresh.core.pictured.desk, len([*Path("/proc/self/fd").iterdir()])
    ids, images = encoded(fresh, "[IMG]", [file_of(picture(64, 64))], "{}")
    for number in range(100):
        one = encoded(fresh, "[IMG]", [file_of(picture(120, 120, number + 10))], "{}")
        fresh.ask(number, [one[0]], GREEDY, 4, images=one[1])
    ends = time.monotonic() + 0.5
    run_until(fresh, lambda: time.monotonic() > ends)
    began = time.monotonic()
    for number in range(100):
        fresh.cancel(number)
    assert time.monotonic() - began < 0.5 and not desk._waiting and len(desk._sent) <= 1
    encoded_after, take = [], desk._take
    monkeypatch.setattr(
        desk, "_take", lambda news: (encoded_after.extend([news.digest] * isinstance(news, Rows)), take(news))
    )
    fresh.ask(200, [ids], GREEDY, 4, images=images)
    fresh.drain()
    # It waits for those alone that were encoded already, never for the others of the hundred.
    assert encoded_after[-1] == images[0].digest and len(encoded_after) <= 3
    assert len(fresh.tokens(200)) == 4
    assert len([*Path("/proc/self/fd").iterdir()]) == memory


def test_a_picture_that_is_dropped_before_the_encoder_takes_it_up_is_accounted_for(fresh):
    desk = fresh.core.pictured.desk
    process = psutil.Process(desk.process.pid)
    for number in range(8):
        ids, images = encoded(fresh, "[IMG]", [file_of(picture(72, 24, number))], "{}")
        process.suspend()
        fresh.ask(number, [ids], GREEDY, 4, images=images)
        run_until(fresh, lambda: desk._sent)
        fresh.cancel(number)
        assert desk._sent and desk._left
        process.resume()
        run_until(fresh, lambda: not desk._sent and not desk._left)


class Fake:
    """A process that says what it is told to."""

    def __init__(self, *said):
        self.said, self.asked, self.cancelled = list(said), [], []

    def wait_until_open(self):
        pass

    def news(self):
        said, self.said = self.said, []
        return said

    def encode(self, digest, data):
        self.asked.append(digest)

    def cancel(self, digest):
        self.cancelled.append(digest)

    def close(self):
        pass


def test_a_process_that_cannot_start_again_fails_images_until_it_can(caplog):
    processes = [Fake(), Fake(Ended("ended with exit code 1")), Fake(Opened())]
    started = iter(processes)
    desk = open_apart(lambda: next(started), RowCache(0))
    desk.open()
    desk.begin(1, [(b"a", b""), (b"b", b"")])
    desk.begin(2, [(b"b", b""), (b"c", b"")])
    desk.begin(3, [(b"c", b"")])
    assert processes[0].asked == [b"a", b"b"]
    desk.cancel(1)
    assert processes[0].cancelled == [b"a"], "the other is wanted"
    processes[0].said = [Ended("was killed by SIGKILL")]
    assert desk.take_ready() == [] and desk.process is processes[1]
    assert {job for job, message in desk.take_ready() if "before it was ready" in message} == {2, 3}
    assert desk.process is None and "requests with images fail until one is" in caplog.text
    desk.begin(4, [(b"a", b""), (b"a", b"")])
    assert processes[2].asked == []
    assert desk.take_ready() == [] and processes[2].asked == [b"a"]
    rows = torch.ones(2, 3)
    processes[2].said = [Rows(b"a", rows), Failed(b"x", "of nobody")]
    assert desk.take_ready() == [(4, [rows, rows])]
    desk.begin(5, [(b"d", b"")])
    desk.begin(6, [(b"e", b"")])
    desk.cancel(6)
    assert processes[2].asked == [b"a", b"d", b"e"] and processes[2].cancelled == [b"e"]
    processes[2].said = [Failed(b"d", "broken")]
    assert desk.take_ready() == [(5, "broken")] and not desk._sent and not desk._jobs


def test_a_picture_that_nobody_wants_any_more_is_left_and_one_that_is_wanted_again_is_encoded_again():
    process = Fake()
    desk = open_apart(lambda: process, RowCache(0))
    desk.open()
    for job, digest in enumerate((b"a", b"b", b"c")):
        desk.begin(job, [(digest, b"")])
    for job in range(3):
        desk.cancel(job)
    assert process.asked == [b"a", b"b"] and process.cancelled == [b"a", b"b"]
    # The first still counts: it may be done just now, and then nothing is said of its cancelling.
    desk.begin(3, [(b"a", b""), (b"d", b"")])
    assert process.asked == [b"a", b"b", b"d"]
    process.said = [Dropped(b"a")]
    assert desk.take_ready() == [] and process.asked == [b"a", b"b", b"d", b"a"]
    rows = torch.ones(2, 3)
    process.said = [Rows(b"d", rows), Rows(b"a", rows)]
    assert desk.take_ready() == [(3, [rows, rows])] and not desk._sent and not desk._waiting
    desk.begin(4, [(b"e", b"")])
    desk.cancel(4)
    process.said = [Dropped(b"e")]
    assert desk.take_ready() == [] and not desk._sent and not desk._waiting


def test_a_process_that_does_not_leave_a_picture_is_started_again_by_the_next_request(monkeypatch, caplog):
    processes = [Fake(), Fake(Opened())]
    started = iter(processes)
    desk = open_apart(lambda: next(started), RowCache(0))
    desk.open()
    desk.begin(1, [(b"a", b"")])
    desk.begin(2, [(b"b", b"")])
    desk.cancel(1)
    desk.begin(3, [(b"c", b"")])
    assert desk.process is processes[0], "it may leave the picture yet"
    monkeypatch.setattr(encoded_apart, "STUCK_SECONDS", 0.0)
    desk.begin(4, [(b"d", b"")])
    assert desk.process is processes[1] and "did not leave a picture" in caplog.text
    assert desk.take_ready() == [] and processes[1].asked == [b"b", b"c"]
    rows = torch.ones(2, 3)
    processes[1].said = [Rows(b"b", rows)]
    assert desk.take_ready() == [(2, [rows])] and not desk._left


def test_a_cancelled_picture_is_left_between_two_layers():
    pictures = Pictures()
    for digest in (b"a", b"b"):
        pictures.put(digest, os.eventfd(0))
    taken, memory = pictures.take()
    os.close(memory)
    pictures.check()
    assert pictures.cancel(b"b"), "it waited, and the engine is told"
    pictures.check()
    assert not pictures.cancel(taken), "the encoder tells of it"
    with pytest.raises(DroppedError):
        pictures.check()
    pictures.put(b"c", os.eventfd(0))
    taken, memory = pictures.take()
    os.close(memory)
    pictures.check()
    assert taken == b"c"


DRIVER = """
import sys, time
from sendnn_pipeline.multimodal.encoder_process import start_encoder
from sendnn_pipeline.multimodal.wire import EncoderSpec
spec = EncoderSpec(folder=sys.argv[1], device="cpu", dtype="float32", out="float32", threads=1)
print(start_encoder(spec, lambda: None).pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_its_engine_whatever_ends_that(folder):
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE) as driver:
        encoder = psutil.Process(int(driver.stdout.readline()))
        driver.kill()
    encoder.wait(30)


def test_a_device_that_does_not_work_ends_the_start(folder):
    process = start_encoder(
        EncoderSpec(folder=str(folder), device="npu", dtype="float32", out="float32", threads=1), lambda: None
    )
    with pytest.raises(EngineError, match="no plugin provides multimodal device npu") as caught:
        process.wait_until_open()
    process.close()
    assert caught.value.exit_code == 2
