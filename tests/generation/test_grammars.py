"""The process of grammars: what it costs, what ends it, and that a text fails alone."""

import json
import os
import select
import subprocess
import sys

import psutil
import pytest

from sendnn_pipeline.generation.grammar import grammars as module
from sendnn_pipeline.generation.grammar.grammars import Grammars
from sendnn_pipeline.generation.grammar.worker import Vocabulary
from tests.generation.api.models import make_tokenizer

END = 1
LETTERS = {"grammars": [{"lark_grammar": "start: /[ab]{3}/"}]}
# Each step of it has hundreds of ways to go on.
SLOW = {"grammars": [{"lark_grammar": "start: x\nx: " + " | ".join(['x x x "a"'] * 200) + ' | "b"'}]}


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def grammars(tokenizer, tmp_path):
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    made = Grammars(Vocabulary(str(file), tokenizer.get_vocab_size(), [END, 3]), wake)
    made.descriptor = wake
    yield made
    made.close()
    os.close(wake)


def ready(grammars) -> set[int]:
    select.select([grammars.descriptor], [], [], 60)
    return set(grammars.take_ready())


def allowed(grammars, text_id) -> set[int]:
    mask = grammars.mask(text_id)
    assert not mask.error
    return {8 * at + bit for at, byte in enumerate(mask.bits) for bit in range(8) if byte >> bit & 1}


def strings(tokenizer, ids) -> set[str]:
    return {tokenizer.decode([one]) for one in ids}


def test_what_may_come_next(grammars, tokenizer):
    grammars.begin(7, json.dumps(LETTERS))
    assert ready(grammars) == {7} and grammars.take_ready() == []
    first = allowed(grammars, 7)
    assert {"a", "b"} <= strings(tokenizer, first) and END not in first
    for letter in "aba":
        assert not grammars.mask(7).complete
        grammars.advance(7, tokenizer.token_to_id(letter))
    assert grammars.mask(7).complete and allowed(grammars, 7) == {END, 3}
    grammars.end(7)


def test_what_is_no_grammar_says_so(grammars):
    for text_id, grammar in enumerate(({"grammars": [{"json_schema": {"type": "x"}}]}, {"lark_or_gbnf": "nothing"})):
        grammars.begin(text_id, json.dumps(grammar))
        assert ready(grammars) == {text_id} and grammars.mask(text_id).error


def test_a_text_that_takes_too_much_fails_alone(grammars, tokenizer, monkeypatch):
    monkeypatch.setattr(module, "STEP_SECONDS", 0.1)
    grammars.begin(1, json.dumps(LETTERS))
    ready(grammars)
    grammars.advance(1, tokenizer.token_to_id("a"))
    grammars.begin(2, json.dumps(SLOW))
    assert ready(grammars) == {2}
    for _ in range(30):
        if grammars.mask(2).error:
            break
        grammars.advance(2, tokenizer.token_to_id("b"))
    assert "the grammar takes more than" in grammars.mask(2).error
    for letter in "ba":
        assert not grammars.mask(1).complete
        grammars.advance(1, tokenizer.token_to_id(letter))
    assert grammars.mask(1).complete


def test_a_process_that_is_killed_is_replaced(grammars, tokenizer):
    grammars.begin(1, json.dumps(LETTERS))
    grammars.begin(2, json.dumps(LETTERS))
    while len(ready(grammars)) == 0:
        pass
    grammars.mask(2)
    grammars.advance(1, tokenizer.token_to_id("a"))
    grammars.mask(1)
    (child,) = psutil.Process().children()
    child.kill()
    child.wait()
    grammars.advance(2, tokenizer.token_to_id("b"))
    assert "the grammar takes" in grammars.mask(2).error
    for letter in "bb":
        assert not grammars.mask(1).complete
        grammars.advance(1, tokenizer.token_to_id(letter))
    assert grammars.mask(1).complete and allowed(grammars, 1) == {END, 3}


def test_the_process_ends_with_its_engine_whatever_it_does(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    script = f"""
import os, psutil, time
from sendnn_pipeline.generation.grammar.grammars import Grammars
from sendnn_pipeline.generation.grammar.worker import Vocabulary
grammars = Grammars(Vocabulary({str(tmp_path / "tokenizer.json")!r}, {tokenizer.get_vocab_size()}, [1]), os.eventfd(0))
grammars.begin(1, {json.dumps(SLOW)!r})
for _ in range(9):
    if not grammars.mask(1).error:
        grammars.advance(1, {tokenizer.token_to_id("b")})
        print(psutil.Process().children()[0].pid, flush=True)
time.sleep(99)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as engine:
        child = psutil.Process(int(engine.stdout.readline()))
        engine.stdout.readline()
        engine.kill()
    child.wait(30)


def test_a_tokenizer_that_the_library_does_not_know(tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    grammars = Grammars(Vocabulary(str(file), 10, [1]), wake)
    grammars.begin(1, json.dumps(LETTERS))
    select.select([wake], [], [], 60)
    assert grammars.take_ready() == [1] and "no grammar goes with this model's tokenizer" in grammars.mask(1).error
    grammars.close()
    os.close(wake)
