"""Long texts: read no further than counts, with the ids that reading all of it gives."""

import asyncio
import threading

import pytest

from sendnn_pipeline.frontend import slices
from sendnn_pipeline.frontend.slices import LONG_CHARS, TooLongError
from sendnn_pipeline.frontend.tokenizer import FEW_TOKENS, TextTokenizer, load_tokenizer
from sendnn_pipeline.frontend.truncation import Truncation

PROSE = "The cat, the dog and a world of hello's: 42 in all! "
LONG = (PROSE * 4000)[:-1]
KINDS = ("word pieces", "byte pairs", "no blanks")


def make_tokenizer(kind: str, folder) -> TextTokenizer:
    """Train a tokenizer of the kind on the prose."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]") if kind == "word pieces" else models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Whitespace() if kind == "word pieces" else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer if kind == "word pieces" else trainers.BpeTrainer
    tokenizer.train_from_iterator([PROSE * 9], trainer(vocab_size=120, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tmp_path_factory):
    made = make_tokenizer(request.param, tmp_path_factory.mktemp("tokenizer"))
    yield made
    made.close()


@pytest.fixture
def text(tokenizer, request):
    return LONG.replace(" ", "_") if "no blanks" in request.node.name else LONG


@pytest.fixture
def seen(tokenizer, monkeypatch):
    """How many characters were tokenized."""
    chars = []
    bare = tokenizer._encode_bare
    monkeypatch.setattr(
        tokenizer, "_encode_bare", lambda texts, most: chars.extend(map(len, texts)) or bare(texts, most)
    )
    return chars


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("most", [3, 64, 1000])
def test_a_cut_text_is_what_the_whole_one_is_cut_to(tokenizer, text, seen, side, most):
    (whole,) = asyncio.run(tokenizer.encode([text], None))
    inner = whole[1:-1]
    inner = inner[: most - 2] if side == "right" else inner[-(most - 2) :]
    (cut,) = asyncio.run(tokenizer.encode([text], most, side=side))
    assert cut == [whole[0], *inner, whole[-1]]
    assert sum(seen) < len(text) / 2


def test_a_text_that_fits_nowhere_is_not_read_to_its_end(tokenizer, text, seen):
    with pytest.raises(TooLongError, match="more than 64 tokens") as raised:
        asyncio.run(tokenizer.encode(["hello", text], None, fits=64))
    assert raised.value.index == 1 and sum(seen) < len(text) / 2


def test_pairs_are_cut_as_whole_ones_are(tokenizer, text):
    query = PROSE * 2
    truncation = Truncation(whole=64)
    (whole,) = [tokenizer._join(*tokenizer._encode_bare([query, text], None), truncation).ids]
    ids, _ = asyncio.run(tokenizer.encode_pairs([query], [text], truncation))
    assert ids == [whole]
    with pytest.raises(TooLongError) as raised:
        asyncio.run(tokenizer.encode_pairs([query], ["hello", text], Truncation(), fits=64))
    assert raised.value.index == 1 and raised.value.second


def test_long_texts_of_few_tokens_still_fit(tmp_path):
    """Blanks, and words that the vocabulary does not have."""
    tokenizer = make_tokenizer("word pieces", tmp_path)
    for text in ("hello" + " " * 3 * LONG_CHARS + "world", "x" * 2 * LONG_CHARS, ("y" * 900 + " ") * 90):
        (ids,) = asyncio.run(tokenizer.encode([text], None, fits=512))
        assert len(ids) < 95
    with pytest.raises(TooLongError, match="characters"):
        asyncio.run(tokenizer.encode([" " * 2_000_000], None, fits=64))
    tokenizer.close()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("text", ["", "a", "a " * 40_000, "ab" * 40_000])
def test_slices_are_the_text(text, side):
    parts = list(slices.slices(text, side))
    assert "".join(parts if side == "right" else reversed(parts)) == text
    assert all(0 < len(part) <= slices.SLICE_CHARS for part in parts)


def test_batches_are_the_texts_and_small():
    texts = ["a" * size for size in (1, 40_000, 30_000, 2_000, 1_000)] + ["b"] * 150
    made = list(slices.batches(texts))
    assert [text for batch in made for text in batch] == texts
    assert [len(batch) for batch in made] == [1, 1, 2, 64, 64, 23]


def test_short_texts_do_not_wait_for_long_ones_and_what_is_cancelled_is_not_read(tmp_path, monkeypatch):
    tokenizer, block, started = make_tokenizer("word pieces", tmp_path), threading.Event(), threading.Semaphore(0)
    bare, encoded = tokenizer._encode_bare, []

    def blocked(texts, most):
        started.release()
        block.wait(20)
        encoded.append(texts)
        return bare(texts, most)

    monkeypatch.setattr(tokenizer, "_encode_bare", blocked)

    async def main():
        long = [asyncio.ensure_future(tokenizer.encode([LONG], None, fits=10**6)) for _ in range(8)]
        for _ in range(2):
            await asyncio.to_thread(started.acquire)
        assert await asyncio.wait_for(tokenizer.encode(["hello world"], None), 10)
        for one in long:
            one.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        block.set()
        assert await asyncio.wait_for(tokenizer.encode([LONG[:-1]], 64), 20)

    asyncio.run(main())
    # A slice of the two that ran, and the last one's own.
    assert len(encoded) <= 5
    tokenizer.close()


def test_decoding_and_strings_of_tokens(tokenizer):
    (ids,) = asyncio.run(tokenizer.encode(["hello world"], None, special=False))
    for some in (ids, ids * FEW_TOKENS):
        assert asyncio.run(tokenizer.decode(some)) == tokenizer._tokenizer.decode(some)
    assert len(asyncio.run(tokenizer.tokens(ids))) == len(ids)
