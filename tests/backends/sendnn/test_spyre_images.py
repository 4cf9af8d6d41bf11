"""Models that read images on emulated cards: a device reads rows in place of ids, and answers as transformers does."""

import base64
import io

import msgspec
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from sendnn_pipeline.backends.sendnn import marks
from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.messages import GenerationOutput, GenerationRequest, Sampling
from sendnn_pipeline.messages import Part
from sendnn_pipeline.pipeline.rank import run_rank
from tests.backends.sendnn.conftest import Card, emulated
from tests.backends.sendnn.test_spyre_generation import SIZES, Port
from tests.emulators.install import HERE, install
from tests.multimodal.vision_models import MODELS, file_of, make_vision_model, picture, prompt_of
from tests.served import Served

FILES = [file_of(picture(40, 40)), file_of(picture(100, 37, 1))]
OTHERS = [file_of(Image.new("RGB", (40, 40), "red")), file_of(Image.new("RGB", (100, 37), "blue"))]
WORDS = (*SIZES, "model.max_model_len=1024", "multimodal.dtype=float32")
# Below which float16 may choose another token than float32 does.
SURE = 0.05
# Of log probabilities in float16.
TOLERANCE = 0.02


class PicturePort(Port):
    """Sends prompts of ids and images."""

    def request(self, prompt):
        ids, images = prompt
        return GenerationRequest([ids], [self.max_tokens], self.sampling, images=images)


@pytest.fixture
def any_card(request, tmp_path, monkeypatch):
    """A card of each emulator."""
    paths = install("torch_sendnn", tmp_path / "site") if request.param == "ours" else str(HERE / "torch_sendnn_strict")
    with emulated(monkeypatch, paths):
        yield Card(monkeypatch, tmp_path)


def reference(folder, resolved, ids, files, number):
    """Return what transformers generates in float32 up to the first choice that float16 may make otherwise.

    And the log probabilities of the first.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
    if files:
        processor = resolved.engine._adapter(resolved.run.model).processor(resolved.run.model)
        inputs |= processor(images=[Image.open(io.BytesIO(file)) for file in files], return_tensors="pt")
    asked = {"do_sample": False, "eos_token_id": None, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        made = model.generate(**inputs, max_new_tokens=number, **asked)
    margins = [float(-logits[0].topk(2).values.diff()) for logits in made.logits]
    sure = next((place for place, margin in enumerate(margins) if margin < SURE), number)
    return made.sequences[0, len(ids) :].tolist()[:sure], torch.log_softmax(made.logits[0][0], -1)


def top_of(port, request_id):
    """Return the log probabilities of the largest first tokens of an answer, by id."""
    parts = [message for message in port.sent if isinstance(message, Part) and message.request_id == request_id]
    return dict(msgspec.msgpack.decode(parts[0].payload, type=GenerationOutput).logprobs[0].top)


BEGINNING = "what all of them begin with, which is more than the sixty-four tokens of a block: {} and {}?"
PROMPTS = [(BEGINNING, FILES), ("{}", FILES[:1]), ("no image", []), (BEGINNING, OTHERS), ("{}", FILES[:1])]


@pytest.mark.parametrize(
    ("any_card", "name", "apart"),
    [("ours", "llava_next", "true"), ("ours", "mistral3", "false"), ("strict", "mistral3", "true")],
    indirect=["any_card"],
)
def test_answers_about_images_are_transformers_own(any_card, name, apart, tmp_path):
    folder, placeholder = make_vision_model(tmp_path / "model", name), MODELS[name][3]
    resolved = any_card.resolve(f"model.path={folder}", *WORDS, f"multimodal.async_encoder={apart}")
    asked = [prompt_of(resolved.run, placeholder, text, files) for text, files in PROMPTS]
    port = PicturePort(asked, Sampling(temperature=0.0, logprobs=5))
    run_rank(port, resolved.run, World())
    assert not port.failures(), port.failures()
    found, firsts = port.tokens(), []
    for index, (_, files) in enumerate(PROMPTS):
        wanted, logprobs = reference(folder, resolved, asked[index][0], files, 12)
        assert found[index][: len(wanted)] == wanted and len(found[index]) == 12
        top = top_of(port, index)
        torch.testing.assert_close(torch.tensor([*top.values()]), logprobs[[*top]], atol=TOLERANCE, rtol=0)
        firsts.append(logprobs)
    # That images count.
    assert found[1] == found[4] and float((firsts[0] - firsts[3]).abs().max()) > 10 * TOLERANCE


def test_two_cards_answer_about_images_as_two_processes_without_any(tmp_path):
    folder = make_vision_model(tmp_path / "model", "mistral3")
    site = {"PYTHONPATH": install("torch_sendnn", tmp_path / "site"), "AIU_WORLD_SIZE": "2"}
    urls = [f"data:image/png;base64,{base64.b64encode(file).decode()}" for file in FILES]
    content = [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": "what?"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    words = ("model=local", f"model.path={folder}", "parallel.tensor_parallel=2", "warmup.remeasure=false")
    texts = []
    for backend in (("backend=eager", "model.dtype=float32"), ("backend=sendnn", f"cache_dir={tmp_path}")):
        with Served(*words, *WORDS, *backend, **site) as served:
            answer = served.session.post(f"{served.url}/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            texts.append(answer.json()["choices"][0]["message"]["content"])
            served.terminate()
            assert served.exit_code() == 0, served.output
    assert texts[0] == texts[1]


def test_rows_without_marks_are_refused_by_the_card(tmp_path, card, monkeypatch):
    folder = make_vision_model(tmp_path / "model", "mistral3")
    unmarked = {function: {**table, marks.ROWS: table["position_ids"]} for function, table in marks.DECODER.items()}
    monkeypatch.setattr(marks, "DECODER", unmarked)
    run = card.resolve(f"model.path={folder}", *WORDS, "multimodal.async_encoder=false").run
    with pytest.raises(Exception, match=r"inputs_embeds.*: dimension 2 is not marked static"):
        run_rank(PicturePort([]), run, World())
