"""Chats with images over HTTP: what they answer, what they count, and what is refused in words."""

import asyncio
import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from sendnn_pipeline.bench.pictures import draw_images
from sendnn_pipeline.config.serving import WorkloadConfig
from sendnn_pipeline.multimodal import fetch as fetching
from tests.multimodal.test_fetch import serving_pictures
from tests.multimodal.test_vision_models import reference
from tests.multimodal.vision_models import file_of, make_vision_model, picture, tokenizer
from tests.served import EAGER_FLOAT32
from tests.served_here import ServedHere

URL = "messages[0].content[0].image_url.url"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_vision_model(tmp_path_factory.mktemp("vision"), "mistral3")


@pytest.fixture(scope="module")
def server(folder):
    words = [
        "scheduler.max_num_seqs=4",
        "scheduler.chunk_size=64",
        "multimodal.dtype=float32",
        "multimodal.max_images=2",
    ]
    with ServedHere(*EAGER_FLOAT32, f"model.path={folder}", "model.served_name=vision", *words) as served:
        yield served


def part(file, **more):
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(file).decode()}", **more},
    }


def ask(server, content, **more):
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    return server.session.post(f"{server.url}/v1/chat/completions", json=body | more)


def test_an_answer_is_transformers_own_and_image_tokens_are_counted(server, folder):
    files = [file_of(picture(40, 40)), file_of(picture(64, 20, 3))]
    answer = ask(server, [*map(part, files), {"type": "text", "text": "what?"}], return_token_ids=True).json()
    prompt = "user: [IMG]\n[IMG]\nwhat?assistant: "
    expanded = [
        ("[IMG]" * 3 + "[IMG_BREAK]") * 2 + "[IMG]" * 3 + "[IMG_END]",
        "[IMG]" * 4 + "[IMG_BREAK]" + "[IMG]" * 4 + "[IMG_END]",
    ]
    for one in expanded:
        prompt = prompt.replace("[IMG]\n", f"{one}\n", 1)
    ids = tokenizer("[IMG]").encode(prompt).ids
    assert answer["prompt_token_ids"] == ids and answer["usage"]["prompt_tokens"] == len(ids)
    tokens, _ = reference(folder, server._resolved, ids, files, 6)
    assert answer["choices"][0]["token_ids"] == tokens


def test_detail_that_the_model_does_not_see_changes_nothing_and_text_alone_has_no_image_tokens(server):
    large = file_of(picture(2000, 700))
    used = [ask(server, [part(large, detail=detail)]).json()["usage"]["prompt_tokens"] for detail in ("low", "high")]
    assert used[0] == used[1], "the model makes both of one size"
    assert ask(server, "hello").json()["usage"]["prompt_tokens"] == len("user: helloassistant: ")


@pytest.mark.parametrize(
    ("content", "param", "words"),
    [
        ([part(file_of(picture(1, 2000)))], URL, "has 1 x 2000 pixels and is too narrow"),
        ([part(file_of(picture(1, 1)))], URL, "must be at least 17 pixels wide or high"),
        ([part(b"<svg/>")], URL, "is no picture of the forms"),
        ([part(file_of(picture(90, 90))[:-400])], URL, "is broken"),
        ([part(file_of(Image.new("1", (9000, 9000))))], URL, "has 9000 x 9000 pixels"),
        ([part(file_of(picture(20, 20)), detail="best")], URL.replace("url.url", "url.detail"), "must be one of auto"),
        ([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a"}}], URL, "not in multimodal.allowed_domains"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}], URL, "names no folder"),
        ([{"type": "image_url"}], URL, "is missing"),
        ([part(file_of(picture(20, 20)))] * 3, "messages", "have 3 images, and 2 are the most"),
        ("what is [IMG] here?", "messages", "leave it to the chat template"),
        ([{"type": "input_audio"}], "messages[0].content[0]", "is of type input_audio"),
    ],
)
def test_what_is_refused_names_the_part(server, content, param, words):
    answer = ask(server, content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert words in error["message"] and error["param"] == param


def test_a_prompt_with_images_is_not_cut(server):
    answer = ask(server, [part(file_of(picture(20, 20)))], truncate_prompt_tokens=5)
    assert answer.status_code == 400 and "would cut images" in answer.json()["error"]["message"]


def test_streams_count_images_too(server):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text = ask(server, [part(file_of(picture(40, 40)))], **options).text
    assert f'"prompt_tokens":{len("user: ") + 12 + len(chr(10) + "assistant: ")}' in text


def test_a_hundred_requests_that_are_dropped_leave_room_for_the_next_one(server):
    async def storm():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, read=0.5), limits=limits) as client:
            bodies = [
                {"messages": [{"role": "user", "content": [part(file_of(picture(120, 120, seed)))]}], "max_tokens": 500}
                for seed in range(100)
            ]
            asked = (client.post(f"{server.url}/v1/chat/completions", json=body) for body in bodies)
            return await asyncio.gather(*asked, return_exceptions=True)

    ended = asyncio.run(storm())
    assert sum(isinstance(one, httpx.ReadTimeout) for one in ended) > 50
    assert server.session.get(f"{server.url}/ready").status_code == 200
    answer = ask(server, [part(file_of(picture(40, 41)))]).json()
    assert answer["usage"]["completion_tokens"] == 6
    ends = time.monotonic() + 30
    while left(server) != (0.0, 0.0):
        assert time.monotonic() < ends, left(server)
        time.sleep(0.05)


def left(server):
    """Return the requests that run and those that wait."""
    text = server.session.get(f"{server.url}/metrics").text
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    values = [sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)) for name in names]
    return values[0], values[1]


def test_a_body_past_the_limit_is_refused(server):
    answer = ask(server, [part(bytes(7 * 2**20))])
    assert answer.status_code == 413 and "serve.max_body_bytes" in answer.text


def test_a_bench_asks_with_images_that_no_cache_has(folder, tmp_path, whole_run):
    words = [*EAGER_FLOAT32, f"model.path={folder}", "multimodal.dtype=float32", "serve=bench", "serve.rounds=1"]
    workload = {"images_per_request": 2, "image_width": 64, "image_height": 40, "num_requests": 3, "concurrency": 2}
    workload |= {"texts_per_request": 1, "max_tokens": 6, "output_tokens": 4, "goodput.latency_ms": 60_000}
    words += [f"workload.{name}={value}" for name, value in workload.items()]
    found = {}
    for transport in ("engine", "http"):
        ended = whole_run(*words, f"serve.transport={transport}", f"serve.output={tmp_path / transport}")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        figures = json.loads((tmp_path / transport / "bench.json").read_text())["figures"]
        assert figures["num_requests"] == 3 and "good requests per second" in ended.stdout
        samples = json.loads((tmp_path / transport / "samples.json").read_text())
        assert [sample["num_output_tokens"] for sample in samples] == [4] * 3
        found[transport] = sorted(sample["num_tokens"] for sample in samples)
        # Two images of four by two places each, with their line breaks, and the text.
        assert min(found[transport]) > 2 * 3 * 2
    assert found["engine"] == found["http"]


def test_the_images_of_a_workload_are_the_same_for_its_seed_alone():
    two = WorkloadConfig(images_per_request=2, image_width=50, image_height=30)
    files = {file for number in range(2) for request in range(2) for file in draw_images(two, number, request)}
    assert len(files) == 8 and draw_images(two, 1, 1) == draw_images(two, 1, 1)
    assert {Image.open(io.BytesIO(file)).size for file in files} == {(50, 30)}
    assert draw_images(WorkloadConfig(), 0, 0) == []


def test_hosts_that_are_slow_hold_up_neither_texts_nor_other_images(folder, monkeypatch):
    """More of them than threads that compute: each waits for itself."""
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    more = ["multimodal.allowed_domains=[127.0.0.1]", "multimodal.fetch_seconds=4", "multimodal.dtype=float32"]
    with ServedHere(*EAGER_FLOAT32, f"model.path={folder}", *more) as served, serving_pictures() as host:
        ask(served, "hello")
        with ThreadPoolExecutor(20) as pool:
            url = {"type": "image_url", "image_url": {"url": f"http://{host}/slow"}}
            slow = [pool.submit(ask, served, [url]) for _ in range(20)]
            time.sleep(0.5)
            began = time.monotonic()
            assert ask(served, "hello").status_code == 200
            assert ask(served, [part(file_of(picture(40, 40)))]).status_code == 200
            assert time.monotonic() - began < 2 and not any(one.done() for one in slow)
            for one in slow:
                assert one.result().status_code == 400 and "no answer within 4 s" in one.result().text
