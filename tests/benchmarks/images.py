"""What images cost: their encoding, its share of the time to the first token, and what texts beside them feel of it.

``python -m tests.benchmarks.images [rounds=N] [images=N] [key=value ...]``; further words are our command line's.
The model is random: a vision tower of 8 layers of 384, a text model of 4 layers of 512. Engines run in this process,
the encoder in its own or, where said, in the engine. What is compared alternates, in one go.
"""

import select
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import Mistral3Config, MistralConfig

from sendnn_pipeline.generation.messages import PromptImage, Sampling
from sendnn_pipeline.messages import Part
from tests.benchmarks.figures import median, spread
from tests.conftest import resolved_run
from tests.generation.cores import Core
from tests.multimodal import vision_models
from tests.multimodal.test_vision_models import encoded
from tests.multimodal.vision_models import IMAGE, MODELS, PIXTRAL, TEXT, file_of, make_vision_model, picture

NAME, EDGE, TEXTS, TOKENS = "mistral3", 224, 4, 32
SAMPLING = Sampling(temperature=0.0)
VISION = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6}
LANGUAGE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 8}


def make_model(folder: Path) -> Path:
    """Write the model."""
    _, processor, whole, placeholder = MODELS[NAME]
    vision = PIXTRAL | VISION | {"image_size": EDGE, "head_dim": 64, "patch_size": 14}
    text = MistralConfig(**(TEXT | LANGUAGE), sliding_window=None)
    kind = type(processor)(size={"longest_edge": EDGE}, patch_size={"height": 14, "width": 14})

    def config() -> Mistral3Config:
        return Mistral3Config(vision_config=vision, text_config=text, image_token_id=IMAGE, spatial_merge_size=2)

    vision_models.MODELS["measured"] = (config, kind, whole | {"patch_size": 14}, placeholder)
    return make_vision_model(folder, "measured")


def run(core: Core, done: Callable[[], bool]) -> None:
    """Make steps until something is so."""
    while not done():
        if not core.core.step():
            select.select([core.core.wake], [], [], 0.1)


class Asker:
    """Asks for images that were not asked for before."""

    def __init__(self, core: Core) -> None:
        self.core, self._seed = core, 0

    def image(self, number: int, max_tokens: int = 1) -> float:
        """Ask with a new picture, and return when."""
        self._seed += 1
        ids, images = self.prompt(self._seed)
        began = time.monotonic()
        self.core.ask(number, [ids], SAMPLING, max_tokens, images=images)
        return began

    def prompt(self, seed: int) -> tuple[list[int], list[PromptImage]]:
        """Return a prompt with a new picture."""
        found: Any = encoded(self.core, MODELS[NAME][3], [file_of(picture(EDGE, EDGE, seed))], "{} what is it?")
        return found[0], found[1]


def decode_ms(asker: Asker, images: int) -> float:
    """Return the median milliseconds between tokens of texts, beside which so many images are encoded."""
    core = asker.core
    core.messages.clear()
    core.ask(0, [[5, 6, 7 + text] for text in range(TEXTS)], SAMPLING, TOKENS)
    run(core, lambda: all(core.tokens(0, text) for text in range(TEXTS)))
    for number in range(images):
        asker.image(1 + number)
    run(core, lambda: all(len(core.tokens(0, text)) == TOKENS for text in range(TEXTS)))
    times = sorted({one.finished for one in core.messages if isinstance(one, Part) and one.request_id == 0})
    for number in range(images):
        core.cancel(1 + number)
    run(core, lambda: core.core.idle)
    return median([1000 * (later - earlier) for earlier, later in pairwise(times)])


def first_token_ms(asker: Asker) -> float:
    """Return the milliseconds to the first token of a prompt with an image, alone."""
    asker.core.messages.clear()
    began = asker.image(1)
    run(asker.core, lambda: bool(asker.core.tokens(1)))
    return 1000 * (time.monotonic() - began)


def whole_seconds(asker: Asker, images: int) -> float:
    """Return what texts and images together take."""
    core = asker.core
    core.messages.clear()
    prompts = [asker.prompt(10_000 + asker._seed + number) for number in range(images)]
    asker._seed += images
    began = time.monotonic()
    core.ask(0, [[5, 6, 7 + text] for text in range(TEXTS)], SAMPLING, TOKENS)
    for number, (ids, pictures) in enumerate(prompts):
        core.ask(1 + number, [ids], SAMPLING, 16, images=pictures)
    core.drain()
    return time.monotonic() - began


def main(words: Sequence[str]) -> None:
    """Print the figures."""
    own = {name: int(text) for name, _, text in (word.partition("=") for word in words) if name in ("rounds", "images")}
    rounds, images = own.get("rounds", 5), own.get("images", 4)
    rest = [word for word in words if word.partition("=")[0] not in ("rounds", "images")]
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        usual = ["model=local", "backend=eager", "model.dtype=float32", "multimodal.dtype=float32", *rest]
        apart, here = (
            Asker(Core(resolved_run([*usual, f"model.path={folder}", f"multimodal.async_encoder={kind}"])))
            for kind in ("true", "false")
        )
        encode = here.core.core.pictured.desk.encoder.encode
        encodes, firsts, alone, beside, totals = [], [], [], [], {"apart": [], "here": []}
        for number in range(1 + rounds):
            file, began = file_of(picture(EDGE, EDGE, 50_000 + number)), time.monotonic()
            encode(file)
            encodes.append(1000 * (time.monotonic() - began))
            firsts.append(first_token_ms(apart))
            alone.append(decode_ms(apart, 0))
            beside.append(decode_ms(apart, images))
            totals["apart"].append(whole_seconds(apart, images))
            totals["here"].append(whole_seconds(here, images))
        for asker in (apart, here):
            asker.core.core.close()
    # The first round warms up.
    encodes, firsts, alone, beside = encodes[1:], firsts[1:], alone[1:], beside[1:]
    share = median(encodes) / median(firsts)
    print(f"encode   {spread(encodes, '.0f')} ms an image of {EDGE} x {EDGE}; {share:.0%} of the first token's")
    print(f"first    {spread(firsts, '.0f')} ms to the first token of a prompt with an image")
    ratio = median([more / less for less, more in zip(alone, beside, strict=True)])
    print(f"decode   {spread(alone, '.1f')} ms a token alone, {spread(beside, '.1f')} beside images: {ratio:.2f} times")
    for name, seconds in totals.items():
        print(f"{name:<9}{spread(seconds[1:], '.2f')} s for {TEXTS} texts and {images} images")


if __name__ == "__main__":
    main(sys.argv[1:])
