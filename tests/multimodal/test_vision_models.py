"""Prompts with images over the paged cache, against what transformers' own models make of them."""

import io

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Idefics3Processor, LlavaNextProcessor, PreTrainedTokenizerFast

from sendnn_pipeline.distributed.world import World
from sendnn_pipeline.generation.messages import PromptImage, Sampling
from sendnn_pipeline.generation.programs import MERGE
from tests.conftest import resolved_run
from tests.generation.cores import Core
from tests.multimodal.vision_models import MODELS, file_of, make_vision_model, picture, prompt_of, tokenizer
from tests.served import EAGER_FLOAT32

WORDS = [*EAGER_FLOAT32, "scheduler.max_num_seqs=4", "scheduler.chunk_size=64", "multimodal.dtype=float32"]
WORDS += ["multimodal.async_encoder=false"]
SIZES = [(40, 40), (100, 37), (37, 100), (64, 64), (200, 77), (17, 3), (500, 500), (31, 33), (1, 60)]
GREEDY = Sampling(temperature=0.0, logprobs=5)


def encoded(core, placeholder, files, text="{} and {}?"):
    """Return the token ids of a prompt, and its images."""
    return prompt_of(core.run, placeholder, text, files)


def reference(folder, resolved, ids, files, number):
    """Return tokens and the logprobs of the first, by transformers alone."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = resolved.engine._adapter(resolved.run.model).processor(resolved.run.model)
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    nested = [pictures] if model.config.model_type in ("idefics3", "smolvlm") else pictures
    pixels = processor(images=nested, return_tensors="pt")
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long(), **pixels}
    with torch.no_grad():
        logprobs = torch.log_softmax(model(**inputs).logits[0, -1], -1)
        made = model.generate(**inputs, max_new_tokens=number, do_sample=False, eos_token_id=None)
    return made[0, len(ids) :].tolist(), logprobs


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_text_are_those_of_transformers(name, tmp_path):
    folder, placeholder = make_vision_model(tmp_path, name), MODELS[name][3]
    resolved = resolved_run([*WORDS, f"model.path={folder}"])
    core = Core(resolved)
    files = [file_of(picture(40, 40)), file_of(picture(100, 37, 1))]
    ids, images = encoded(core, placeholder, files)
    plain = tokenizer(placeholder).encode("beside others, which have no image at all, and which go on and on").ids
    core.ask(1, [plain], GREEDY, 12)
    core.ask(2, [ids], GREEDY, 12, images=images, n=2)
    core.drain()
    tokens, logprobs = reference(folder, resolved, ids, files, 12)
    assert core.failures() == {}
    assert core.tokens(2) == core.tokens(2, 1) == tokens
    top = dict(core.outputs(2)[0][0].logprobs[0].top)
    torch.testing.assert_close(torch.tensor([*top.values()]), logprobs[[*top]], atol=1e-5, rtol=1e-5)
    assert core.core.images.rows == {}
    alone = Core(resolved)
    alone.ask(1, [plain], GREEDY, 12)
    alone.drain()
    assert alone.tokens(1) == core.tokens(1)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_of_any_size_has_the_rows_that_are_expected(name, tmp_path):
    resolved = resolved_run([*WORDS, f"model.path={make_vision_model(tmp_path, name)}"])
    core = resolved.engine.open(resolved.run, World())
    layout = resolved.run.plan.images.layout
    for width, height in SIZES:
        rows = core.pictured.desk.encoder.encode(file_of(picture(width, height)))
        assert layout.expand(width, height).count(MODELS[name][3]) == len(rows), (width, height)
    refused = []
    for width, height in ((1, 1), (1, 2000), (2000, 1)):
        try:
            expected = layout.expand(width, height).count(MODELS[name][3])
        except ValueError as error:
            assert "at least" in str(error)
            refused.append((width, height))
        else:
            assert len(core.pictured.desk.encoder.encode(file_of(picture(width, height)))) == expected
    assert len(refused) == (3 if name == "mistral3" else 0)
    core.close()


@pytest.mark.parametrize(("name", "kind"), [("llava_next", LlavaNextProcessor), ("idefics3", Idefics3Processor)])
def test_prompts_are_those_of_transformers_processors(name, kind, tmp_path):
    folder = make_vision_model(tmp_path, name)
    run = resolved_run([*WORDS, f"model.path={folder}"]).run
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer("<image>"), pad_token="</s>")
    whole = MODELS[name][2]
    processor = kind(image_processor=MODELS[name][1], tokenizer=fast, **whole)
    for width, height in SIZES:
        text = f"see {run.plan.images.layout.expand(width, height)}."
        wanted = processor(text="see <image>.", images=[picture(width, height)])["input_ids"][0]
        assert list(wanted) == tokenizer("<image>").encode(text).ids, (width, height)


def test_prefixes_with_images_are_shared_where_the_images_are_equal(tmp_path):
    resolved = resolved_run([*WORDS, f"model.path={make_vision_model(tmp_path, 'llava_next')}"])
    core = Core(resolved)
    one, two = file_of(picture(60, 60)), file_of(picture(60, 60, 1))
    beginning = "what all of these prompts have in common, which is more than a block of sixty-four tokens: {}"
    answers = {}
    for number, file in enumerate([one, one, two, file_of(Image.open(io.BytesIO(one)), "BMP")]):
        ids, images = encoded(core, "<image>", [file], beginning)
        core.ask(number, [ids], GREEDY, 4, images=images)
        core.drain()
        output = core.outputs(number)[0][0]
        answers[number] = output.cached_tokens, output.logprobs[0].logprob
    cached = [tokens for tokens, _ in answers.values()]
    # The text before them is shared by all, the images by those alone that show the same.
    assert cached[0] == 0 and cached[2] == 64 and cached[1] == cached[3] > 64
    first, *others = (logprob for _, logprob in answers.values())
    assert others[0] == others[2] == pytest.approx(first, abs=1e-5) and abs(others[1] - first) > 1e-4
    assert len(core.core.pictured.desk.cache) == 2


def test_what_cannot_be_encoded_fails_alone_and_nothing_is_left(tmp_path, monkeypatch):
    core = Core(resolved_run([*WORDS, f"model.path={make_vision_model(tmp_path, 'mistral3')}"]))
    ids, images = encoded(core, "[IMG]", [file_of(picture(40, 40))], "{}")
    broken = [PromptImage(b"no image", b"another", images[0].num_rows)]
    core.ask(1, [ids], GREEDY, 4, images=broken)
    core.ask(2, [ids], GREEDY, 4, images=images)
    core.ask(3, [ids[:-4] + ids[-2:]], GREEDY, 4, images=images)
    core.ask(4, [ids], GREEDY, 4, images=images)
    core.cancel(4)
    core.drain()
    failures = {number: failed.message for number, failed in core.failures().items()}
    assert failures.keys() == {1, 3} and "could not be encoded: UnidentifiedImageError" in failures[1]
    assert "the encoder gave [9] rows for the 7 places" in failures[3] or "places" in failures[3]
    assert len(core.tokens(2)) == 4 and core.tokens(4) == []
    assert core.core.images.rows == {} and core.core.pictured._waiting == {}


@pytest.mark.slow
def test_what_the_first_layer_reads_is_compiled_for_any_number_of_tokens(tmp_path):
    folder = make_vision_model(tmp_path, "llava_next")
    words = ["model=local", "backend=inductor", "model.dtype=float32", *WORDS[len(EAGER_FLOAT32) :]]
    resolved = resolved_run([*words, f"model.path={folder}"])
    core = resolved.engine.open(resolved.run, World())
    (program,) = [one for one in resolved.run.plan.programs if one.function == MERGE]
    merge = resolved.backend.compile(core.graph(program)).bind(core.weights)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    for size in (1, 7, 64):
        ids, rows = torch.arange(size) + 3, torch.randn(size, model.config.text_config.hidden_size)
        is_image = torch.arange(size) % 3
        with torch.no_grad():
            (found,) = merge(ids, torch.arange(size), is_image.bool().long(), rows)
            wanted = model.get_input_embeddings()(ids)
        wanted[is_image != 0] = rows[is_image != 0]
        torch.testing.assert_close(found, wanted * model.config.text_config.embedding_multiplier)
    core.close()
