"""/v1/completions, asked by the real client, against transformers."""

import json

import pytest

from tests.generation.api.models import events

PROMPT = "The assert statement"


def ids_of(llama_reference, text: str) -> list[int]:
    return llama_reference.tokenizer(text)["input_ids"]


def text_of(llama_reference, ids: list[int]) -> str:
    return llama_reference.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("prompt", [PROMPT, "x", "Grüße, 世界! 🙂 " * 5])
def test_greedy_text_is_that_of_transformers(served_llama, llama_reference, prompt):
    ids = ids_of(llama_reference, prompt)
    expected = llama_reference.greedy(ids, 40)
    answer = served_llama.client().completions.create(model="llama", prompt=prompt, max_tokens=40)
    (choice,) = answer.choices
    stopped = expected[-1] in (1, 3)
    assert choice.text == text_of(llama_reference, expected)
    assert choice.finish_reason == ("stop" if stopped else "length")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), len(expected))
    assert usage.total_tokens == len(ids) + len(expected) and usage.prompt_tokens_details.cached_tokens >= 0


def test_ids_texts_and_lists_of_them_are_the_same(served_llama, llama_reference):
    ids = ids_of(llama_reference, PROMPT)
    asked = [PROMPT, [PROMPT], ids, [ids], [PROMPT, PROMPT], [ids, ids]]
    answers = [
        served_llama.post("/v1/completions", json={"prompt": prompt, "max_tokens": 8}).json()["choices"]
        for prompt in asked
    ]
    assert {choice["text"] for choices in answers for choice in choices} == {answers[0][0]["text"]}
    assert [[choice["index"] for choice in choices] for choices in answers] == [[0], [0], [0], [0], [0, 1], [0, 1]]


def test_the_context_is_the_same_everywhere(served_llama):
    limits = served_llama.get("/info").json()["limits"]
    assert (limits["max_model_len"], limits["max_input_tokens"]) == (256, 255)
    assert served_llama.get("/v1/models").json()["data"][0]["max_model_len"] == 256
    assert served_llama.post("/tokenize", json={"prompt": "x"}).json()["max_model_len"] == 256
    assert served_llama.wait_line(r"context +256 tokens")


def test_unset_max_tokens_fills_what_is_left(served_llama, llama_reference):
    body = {"prompt": PROMPT, "ignore_eos": True, "max_tokens": None}
    usage = served_llama.post("/v1/completions", json=body).json()["usage"]
    assert usage["total_tokens"] == 256


def test_a_stream_joined_is_the_whole(served_llama):
    body = {"prompt": [PROMPT, "if"], "max_tokens": 30, "temperature": 1.5, "seed": 3, "n": 2, "ignore_eos": True}
    whole = served_llama.post("/v1/completions", json=body).json()
    parts = events(served_llama, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert len({part["id"] for part in parts}) == 1 and parts[-1]["choices"] == []
    assert parts[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 120
    assert all(part["usage"] is None for part in parts[:-1])
    for choice in whole["choices"]:
        mine = [part["choices"][0] for part in parts[:-1] if part["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [part["finish_reason"] for part in mine] == [None] * (len(mine) - 1) + ["length"]


def test_usage_in_every_chunk(served_llama):
    options = {"continuous_usage_stats": True, "include_usage": True}
    parts = events(served_llama, "/v1/completions", {"prompt": PROMPT, "max_tokens": 5, "stream_options": options})
    counts = [part["usage"]["completion_tokens"] for part in parts]
    assert counts == sorted(counts) and counts[-1] == 5


def test_the_real_client_streams(served_llama):
    client = served_llama.client()
    asked = {"model": "llama", "prompt": PROMPT, "max_tokens": 12}
    whole = client.completions.create(**asked).choices[0].text
    assert "".join(part.choices[0].text for part in client.completions.create(**asked, stream=True)) == whole


def test_a_seed_gives_the_same_text_whoever_is_beside_it(served_llama):
    body = {"prompt": PROMPT, "max_tokens": 20, "temperature": 1.0, "seed": 7}
    alone = served_llama.post("/v1/completions", json=body).json()["choices"][0]["text"]
    several = served_llama.post("/v1/completions", json={**body, "prompt": ["if", PROMPT, "x"], "n": 2}).json()
    texts = [choice["text"] for choice in several["choices"]]
    assert texts[2] == alone and len(set(texts)) == 6
    other = served_llama.post("/v1/completions", json={**body, "seed": None}).json()["choices"][0]["text"]
    assert other != alone


def test_echo_and_its_logprobs(served_llama, llama_reference):
    ids = ids_of(llama_reference, PROMPT)
    body = {"prompt": PROMPT, "max_tokens": 4, "echo": True, "logprobs": 2, "ignore_eos": True}
    choice = served_llama.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["text"].startswith(PROMPT)
    logprobs = choice["logprobs"]
    whole = ids + llama_reference.greedy(ids, 4, ())
    expected = llama_reference.logprobs(whole)
    found = logprobs["token_logprobs"]
    assert found[0] is None and logprobs["top_logprobs"][0] is None and len(found) == len(whole)
    for position in range(1, len(whole)):
        assert found[position] == pytest.approx(float(expected[position - 1, whole[position]]), abs=1e-3)
    assert logprobs["tokens"] == [llama_reference.tokenizer.decode([token]) for token in whole]
    assert logprobs["text_offset"][:2] == [0, len("<s>")]
    assert all(2 <= len(top) <= 3 for top in logprobs["top_logprobs"][1:])
    parts = [part["choices"][0] for part in events(served_llama, "/v1/completions", body)]
    assert "".join(part["text"] for part in parts) == choice["text"]
    assert [offset for part in parts for offset in part["logprobs"]["text_offset"]] == logprobs["text_offset"]


def test_echo_alone_scores_a_prompt(served_llama, llama_reference):
    body = {"prompt": [PROMPT, "if"], "max_tokens": 0, "echo": True, "logprobs": 0}
    answer = served_llama.post("/v1/completions", json=body).json()
    assert [choice["text"] for choice in answer["choices"]] == [PROMPT, "if"]
    assert answer["usage"]["completion_tokens"] == 0
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == len(ids_of(llama_reference, PROMPT))


def test_prompt_logprobs_have_vllms_form(served_llama, llama_reference):
    ids = ids_of(llama_reference, PROMPT)
    body = {"prompt": ids, "max_tokens": 1, "prompt_logprobs": 1}
    first, *others = served_llama.post("/v1/completions", json=body).json()["choices"][0]["prompt_logprobs"]
    expected = llama_reference.logprobs(ids)
    assert first is None and len(others) == len(ids) - 1
    for position, entries in enumerate(others):
        row, token = expected[position], ids[position + 1]
        entry = entries[str(token)]
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=1e-3)
        assert entry["rank"] == int((row > row[token]).sum()) + 1
        assert entry["decoded_token"] == llama_reference.tokenizer.decode([token])
        assert min(one["rank"] for one in entries.values()) == 1


def test_logprobs_with_masked_tokens_are_finite(served_llama):
    body = {"prompt": PROMPT, "max_tokens": 4, "logprobs": 20, "logit_bias": {"5": -100}, "allowed_token_ids": [5, 6]}
    text = served_llama.post("/v1/completions", json=body).text
    assert "Infinity" not in text and "NaN" not in text and "null" not in json.loads(text)["choices"][0]["logprobs"]


def test_tokens_can_be_named_by_their_ids(served_llama, llama_reference):
    body = {"prompt": PROMPT, "max_tokens": 3, "logprobs": 1, "return_tokens_as_token_ids": True}
    body |= {"return_token_ids": True, "ignore_eos": True}
    choice = served_llama.post("/v1/completions", json=body).json()["choices"][0]
    expected = llama_reference.greedy(ids_of(llama_reference, PROMPT), 3, ())
    assert choice["logprobs"]["tokens"] == [f"token_id:{token}" for token in expected]
    assert choice["token_ids"] == expected and choice["prompt_token_ids"] == ids_of(llama_reference, PROMPT)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_tokens_ends_an_answer(served_llama, llama_reference, include, stream):
    ids = ids_of(llama_reference, PROMPT)
    text = text_of(llama_reference, llama_reference.greedy(ids, 60, ()))
    stop = text[20:26]
    end = text.index(stop)
    body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True, "stop": ["never in there", stop]}
    body["include_stop_str_in_output"] = include
    if stream:
        parts = [part["choices"][0] for part in events(served_llama, "/v1/completions", body)]
        found, last = "".join(part["text"] for part in parts), parts[-1]
    else:
        answer = served_llama.post("/v1/completions", json=body).json()
        last = answer["choices"][0]
        found = last["text"]
        assert answer["usage"]["completion_tokens"] < 60
    assert found == text[: end + len(stop) if include else end]
    assert (last["finish_reason"], last["stop_reason"]) == ("stop", stop)


def test_a_stop_string_ends_one_answer_and_the_others_go_on(served_llama):
    body = {"prompt": PROMPT, "max_tokens": 40, "n": 4, "temperature": 1.0, "seed": 1, "ignore_eos": True}
    texts = [choice["text"] for choice in served_llama.post("/v1/completions", json=body).json()["choices"]]
    stop = texts[2][10:16]
    choices = served_llama.post("/v1/completions", json={**body, "stop": stop}).json()["choices"]
    for choice, text in zip(choices, texts, strict=True):
        assert choice["text"] == text.partition(stop)[0]
        assert choice["stop_reason"] == (stop if stop in text else None)


def test_a_stop_token_ends_an_answer(served_llama, llama_reference):
    ids = ids_of(llama_reference, PROMPT)
    expected = llama_reference.greedy(ids, 20, ())
    token = expected[9]
    end = expected.index(token)
    body = {"prompt": PROMPT, "max_tokens": 20, "ignore_eos": True, "stop_token_ids": [token]}
    answer = served_llama.post("/v1/completions", json=body).json()
    choice = answer["choices"][0]
    assert choice["text"] == text_of(llama_reference, expected[:end])
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", token)
    assert answer["usage"]["completion_tokens"] == end + 1
    more = served_llama.post("/v1/completions", json={**body, "include_stop_str_in_output": True}).json()
    assert more["choices"][0]["text"] == text_of(llama_reference, expected[: end + 1])


@pytest.mark.parametrize("end", [1, 3])
def test_every_end_of_text_counts(served_llama, end):
    body = {"prompt": PROMPT, "max_tokens": 5, "logit_bias": {end: 100}}
    choice = served_llama.post("/v1/completions", json=body).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("", "stop", None)
    choice = served_llama.post("/v1/completions", json={**body, "ignore_eos": True}).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")
    body |= {"ignore_eos": True, "skip_special_tokens": False}
    choice = served_llama.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["text"] == {1: "</s>", 3: "<|end|>"}[end] * 5
    body = {"prompt": PROMPT, "max_tokens": 9, "logit_bias": {end: 100}, "min_tokens": 4}
    assert served_llama.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 5


def test_bad_words_and_allowed_ids(served_llama, llama_reference):
    ids = ids_of(llama_reference, PROMPT)
    first = llama_reference.greedy(ids, 1, ())[0]
    word = llama_reference.tokenizer.decode([first])
    body = {"prompt": PROMPT, "max_tokens": 1, "return_token_ids": True, "ignore_eos": True}
    answer = served_llama.post("/v1/completions", json={**body, "bad_words": [word]}).json()
    assert answer["choices"][0]["token_ids"] != [first]
    answer = served_llama.post("/v1/completions", json={**body, "allowed_token_ids": [77]}).json()
    assert answer["choices"][0]["token_ids"] == [77]


def test_the_end_of_a_long_prompt(served_llama, llama_reference):
    long = [ids_of(llama_reference, PROMPT)[1:][0]] * 300 + ids_of(llama_reference, PROMPT)
    body = {"prompt": long, "max_tokens": 10, "truncate_prompt_tokens": 8}
    answer = served_llama.post("/v1/completions", json=body).json()
    expected = served_llama.post("/v1/completions", json={"prompt": long[-8:], "max_tokens": 10}).json()
    assert answer["usage"]["prompt_tokens"] == 8
    assert answer["choices"][0]["text"] == expected["choices"][0]["text"]
    fitting = served_llama.post("/v1/completions", json={**body, "truncate_prompt_tokens": -1, "ignore_eos": True})
    assert fitting.json()["usage"]["total_tokens"] == 256


def test_no_text_begins_twice(served_llama, llama_reference):
    body = {"prompt": f"<s>{PROMPT}", "max_tokens": 1, "return_token_ids": True}
    choice = served_llama.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["prompt_token_ids"] == ids_of(llama_reference, PROMPT)


def test_a_cached_prompt_is_counted_unless_it_has_a_salt_of_its_own(served_llama):
    body = {"prompt": "if " * 90, "max_tokens": 1}

    def cached(**more: str) -> int:
        usage = served_llama.post("/v1/completions", json={**body, **more}).json()["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    assert cached() == 0 and cached() >= 64
    assert cached(cache_salt="a") == 0 and cached(cache_salt="b") == 0 and cached(cache_salt="a") >= 64
