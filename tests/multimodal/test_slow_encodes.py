"""A cancel storm over an encoder that takes seconds for a picture: who comes next waits for none that was dropped."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from PIL import Image
from transformers import Mistral3Config, MistralConfig, PixtralImageProcessorPil

from tests.leaks import wait_for
from tests.multimodal import vision_models
from tests.multimodal.test_image_requests import ask, left, part
from tests.multimodal.vision_models import IMAGE, PIXTRAL, TEXT, file_of, make_vision_model, picture
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere

# A picture of so many pixels has 4096 patches in each of sixty layers: seconds, where a small one is a moment.
LARGE, LAYERS = 512, 60
# Pixels of the longer edge at most; of an image of little detail they are 512.
LONGEST = 640


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    vision = PIXTRAL | {"num_hidden_layers": LAYERS, "image_size": LONGEST}
    slow = (
        lambda: Mistral3Config(
            vision_config=vision,
            text_config=MistralConfig(**TEXT, sliding_window=None),
            image_token_id=IMAGE,
            spatial_merge_size=2,
        ),
        PixtralImageProcessorPil(size={"longest_edge": LONGEST}, patch_size={"height": 8, "width": 8}),
        {"patch_size": 8, "spatial_merge_size": 2},
        "[IMG]",
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(vision_models.MODELS, "slow", slow)
        folder = make_vision_model(tmp_path_factory.mktemp("vision"), "slow")
    words = ["scheduler.max_num_seqs=4", "scheduler.chunk_size=64", "multimodal.dtype=float32", "process.num_cpus=1"]
    with ServedHere(*EAGER_FLOAT32, f"model.path={folder}", *words) as served:
        yield served


def large(seed):
    """Return a large picture whose file is small, so that the encoder alone is busy."""
    return file_of(Image.new("RGB", (LARGE, LARGE), (seed, 100, 0)))


def memories(process):
    """Return the memory without a name that a process has, of rows and of pictures."""
    return [one for one in process.memory_maps() if "sendnn-rows" in one.path]


def cpu_seconds(process):
    """Return what a process has computed so far."""
    return sum(process.cpu_times()[:2])


def test_a_storm_of_pictures_that_take_seconds_holds_nobody_up(server):
    began = time.monotonic()
    assert ask(server, [part(large(200))], max_tokens=1).status_code == 200
    slow = time.monotonic() - began
    began = time.monotonic()
    assert ask(server, [part(file_of(picture(40, 40)))]).status_code == 200
    own = time.monotonic() - began
    assert slow > 4 * own, "the storm is of pictures that take long"

    async def storm():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, read=0.5), limits=limits) as client:
            contents = [[part(large(seed))] for seed in range(100)]
            bodies = [{"messages": [{"role": "user", "content": one}], "max_tokens": 500} for one in contents]
            asked = (client.post(f"{server.url}/v1/chat/completions", json=body) for body in bodies)
            return await asyncio.gather(*asked, return_exceptions=True)

    ended = asyncio.run(storm())
    assert sum(isinstance(one, httpx.ReadTimeout) for one in ended) > 90
    began = time.monotonic()
    assert server.session.get(f"{server.url}/ready").status_code == 200
    assert time.monotonic() - began < 1
    assert ask(server, [part(file_of(picture(40, 41)))]).json()["usage"]["completion_tokens"] == 6
    taken = time.monotonic() - began
    assert taken < 2 + own, f"{taken:.1f} s, {own:.1f} s by itself, and a picture of the storm takes {slow:.1f} s"
    ends = time.monotonic() + 10
    while left(server) != (0.0, 0.0):
        assert time.monotonic() < ends, left(server)
        time.sleep(0.05)
    assert not any(map(memories, [psutil.Process(), *psutil.Process().children(recursive=True)]))


def test_an_image_of_little_detail_has_fewer_tokens(server):
    wide = file_of(picture(LONGEST, 16))
    used = {
        detail: ask(server, [part(wide, detail=detail)], max_tokens=1).json()["usage"]["prompt_tokens"]
        for detail in ("low", "high", "auto")
    }
    # A row of patches, sixteen pixels each.
    assert used["high"] == used["auto"] == used["low"] + (LONGEST - 512) // 16


def test_an_encoder_that_is_killed_at_work_fails_the_request_that_needs_it_alone(server):
    def encoder():
        children = psutil.Process().children(recursive=True)
        return next(one for one in children if "sendnn_pipeline.multimodal.worker" in one.cmdline())

    killed = encoder()
    before = cpu_seconds(killed)
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(ask, server, [part(large(201))])
        wait_for(lambda: cpu_seconds(killed) > before + 0.3)
        # However long the text takes on a busy machine, the picture is not done before it.
        killed.suspend()
        waiting = pool.submit(ask, server, [part(file_of(picture(48, 48)))])
        assert ask(server, "a text").status_code == 200 and not begun.done()
        killed.kill()
        failed = begun.result()
        assert failed.status_code == 500 and "the process that encodes images was killed by SIGKILL" in failed.text
        assert waiting.result().status_code == 200
    assert encoder().pid != killed.pid and server.session.get(f"{server.url}/ready").status_code == 200
    ends = time.monotonic() + 10
    while left(server) != (0.0, 0.0):
        assert time.monotonic() < ends, left(server)
        time.sleep(0.05)
    assert not memories(psutil.Process())
