"""What cannot be answered is a 400 at once that names its field, and nothing else on the server changes."""

import json
import math

import pytest

from tests.generation.api.models import BEYOND

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}
DEEP: dict = {}
for _ in range(80):
    DEEP = {"items": DEEP}
BOTH = [
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 1e-300}, "repetition_penalty"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"seed": 2**64}, "seed"),
    ({"n": 10**9}, "n"),
    ({"n": 0}, "n"),
    ({"n": 100}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 10**6}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 4, "min_tokens": 5}, "min_tokens"),
    ({"logit_bias": {"600": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"stop": ["x"] * 10_000}, "stop"),
    ({"stop": ["x", ""]}, "stop"),
    ({"stop": "x" * 10_000}, "stop"),
    ({"stop_token_ids": [600]}, "stop_token_ids"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"stop_token_ids": [2**70]}, "stop_token_ids"),
    ({"stop_token_ids": [1] * 2000}, "stop_token_ids"),
    ({"allowed_token_ids": [600]}, "allowed_token_ids"),
    ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"allowed_token_ids": [1], "min_tokens": 1}, "allowed_token_ids"),
    ({"bad_words": [""]}, "bad_words"),
    ({"bad_words": ["x"] * 1000}, "bad_words"),
    ({"prompt_logprobs": 21}, "prompt_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"priority": 1}, "priority"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": 256}, "truncate_prompt_tokens"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "x", "choice": ["x"]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"regex": "["}}, "structured_outputs.regex"),
    ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["x", ""]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["x"] * 2000}}, "structured_outputs.choice"),
    ({"structured_outputs": {"grammar": "nothing"}}, "structured_outputs.grammar"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": "[1]"}}, "structured_outputs.json"),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ({"structured_outputs": {"regex": "x", "whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern"),
    (
        {"structured_outputs": {"choice": ["x"], "disable_any_whitespace": True}},
        "structured_outputs.disable_any_whitespace",
    ),
    (
        {"structured_outputs": {"json": {}, "whitespace_pattern": " ", "disable_any_whitespace": True}},
        "structured_outputs.whitespace_pattern",
    ),
    ({"guided_regex": "x", "guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
    (
        {"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": {}}}},
        "response_format.json_schema",
    ),
    ({"guided_json": {}, "guided_regex": "x"}, "guided_regex"),
    ({"guided_json": {"type": "thing"}}, "guided_json"),
    ({"guided_json": {"not": {}}}, "guided_json"),
    ({"guided_json": {"$ref": "http://example.com/schema"}}, "guided_json"),
    ({"guided_choice": ["x" * 200_000]}, "guided_choice"),
    ({"guided_regex": "x+", "ignore_eos": True}, "ignore_eos"),
    ({"guided_grammar": " "}, "guided_grammar"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"response_format": {"type": "json"}}, "response_format.type"),
    ({"response_format": {}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "x"}}}},
        "response_format.json_schema.schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": DEEP}}},
        "response_format.json_schema.schema",
    ),
    ({"response_format": {"type": "json_object"}, "guided_regex": "x"}, "guided_regex"),
]
OF_COMPLETIONS = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["x", ""]}, "prompt[1]"),
    ({"prompt": [[5], []]}, "prompt[1]"),
    ({"prompt": [600]}, "prompt"),
    ({"prompt": f"a {BEYOND}"}, "prompt"),
    ({"prompt": ["x", BEYOND]}, "prompt[1]"),
    ({"prompt": [[5], [-1]]}, "prompt[1]"),
    ({"prompt": [5, "x"]}, "prompt"),
    ({"prompt": [1.5]}, "prompt[0]"),
    ({"prompt": "word " * 400}, "prompt"),
    ({"prompt": [[5] * 256]}, "prompt[0]"),
    ({"prompt": "word " * 1_000_000}, "prompt"),
    ({"prompt": ["x"] * 2000}, "prompt"),
    ({"prompt": ["x"] * 65}, "prompt"),
    ({"prompt": ["x"] * 33, "n": 2}, "n"),
    ({"prompt": None}, "prompt"),
    ({"logprobs": 21}, "logprobs"),
    ({"best_of": 3}, "best_of"),
    ({"suffix": "x"}, "suffix"),
]
CALL = {"id": "1", "type": "function", "function": {"name": "x", "arguments": "{}"}}


def called(**changed: object) -> dict:
    """A chat whose assistant called a function in a way of its own."""
    return {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{**CALL, **changed}]}]}


def spoken(**message: object) -> dict:
    return {"messages": [{"role": "user", "content": "x", **message}]}


CALLS = "messages[1].tool_calls[0]"
OF_PAST_CALLS = [
    ({"messages": [{"role": "assistant", "tool_calls": {"0": CALL}}]}, "messages[0].tool_calls"),
    (called(id=None), f"{CALLS}.id"),
    (called(id=5), f"{CALLS}.id"),
    (called(type=None), f"{CALLS}.type"),
    (called(type="banana"), f"{CALLS}.type"),
    (called(type=["function"]), f"{CALLS}.type"),
    (called(function=None), f"{CALLS}.function"),
    (called(function="x"), f"{CALLS}.function"),
    (called(function={"arguments": "{}"}), f"{CALLS}.function.name"),
    (called(function={"name": "", "arguments": "{}"}), f"{CALLS}.function.name"),
    (called(function={"name": "x", "arguments": '{"a'}), f"{CALLS}.function.arguments"),
    (called(function={"name": "x", "arguments": 0}), f"{CALLS}.function.arguments"),
    (called(function={"name": "x", "arguments": []}), f"{CALLS}.function.arguments"),
    (spoken(role="tool", tool_call_id=4), "messages[0].tool_call_id"),
    (spoken(role="tool", content=None), "messages[0].content"),
    (spoken(name=3), "messages[0].name"),
    (spoken(role="assistant", refusal=3), "messages[0].refusal"),
    (spoken(role="assistant", reasoning_content=[]), "messages[0].reasoning_content"),
    (spoken(role="assistant", content=[{"type": "refusal", "text": "x"}]), "messages[0].content[0].refusal"),
    (spoken(content=[{"type": "banana", "banana": 1}]), "messages[0].content[0]"),
]
OF_CHATS = [
    *OF_PAST_CALLS,
    ({"messages": []}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages[0].content[0]",
    ),
    ({"messages": [{"role": "user", "content": "word " * 400}]}, "messages"),
    ({"messages": [{"role": "user", "content": f"a {BEYOND}"}]}, "messages"),
    ({"messages": None}, "messages"),
    ({"max_completion_tokens": 10**6}, "max_completion_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_completion_tokens": 4, "max_tokens": 5}, "max_tokens"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
    ({"tools": [{"type": "function"}]}, "tools[0]"),
    ({"tools": [{"type": "custom", "function": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    ({"tools": [TOOL] * 2000}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "x", "parameters": 5}}]}, "tools[0].function.parameters"),
    (
        {
            "tools": [{"type": "function", "function": {"name": "x", "parameters": {"not": {}}}}],
            "tool_choice": "required",
        },
        "tools",
    ),
    ({"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}}, "tools"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"continue_final_message": True, "add_generation_prompt": False}, "continue_final_message"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"functions": [{"name": "x"}]}, "functions"),
]


def whole(path: str, fields: dict) -> dict:
    bare = {"prompt": "x"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "x"}]}
    return {**bare, "max_tokens": 4, **fields} if "max_completion_tokens" not in fields else {**bare, **fields}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [(path, *one) for path in (COMPLETIONS, CHATS) for one in BOTH]
    + [(COMPLETIONS, *one) for one in OF_COMPLETIONS]
    + [(CHATS, *one) for one in OF_CHATS],
    ids=lambda value: str(value)[:60],
)
def test_it_is_a_400_that_names_the_field(served_llama, path, fields, param):
    answer = served_llama.post(path, json=whole(path, fields))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and len(error["message"]) < 1100
    assert error["type"] == "invalid_request_error" and error["code"]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (COMPLETIONS, {"prompt": "x"}, "prompt"),
        (COMPLETIONS, {"prompt": ["x", "x"]}, "prompt[0]"),
        (CHATS, {"messages": [{"role": "user", "content": "x"}]}, "messages"),
    ],
)
def test_the_engine_names_the_field_that_it_failed_on(served_llama, path, fields, param):
    answer = served_llama.post(path, json={**fields, "guided_regex": "x+", "allowed_token_ids": [500]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (500, param) and error["message"].startswith(f"{param} no token")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty"])
def test_numbers_that_are_none(served_llama, name, value):
    body = f'{{"prompt": "x", "{name}": {value}}}'
    answer = served_llama.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_null_is_unset_everywhere(served_llama):
    document = served_llama.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, name in ((COMPLETIONS, "CompletionRequest"), (CHATS, "ChatRequest")):
        required = whole(path, {})
        nulls = dict.fromkeys(schemas[name]["properties"].keys() - required.keys())
        answers = [served_llama.post(path, json={**nulls, **required}), served_llama.post(path, json=required)]
        texts = [answer.json()["choices"][0] for answer in answers]
        assert texts[0] == texts[1]


def test_what_nobody_knows_is_ignored(served_llama):
    body = {"prompt": "x", "max_tokens": 1, "store": True, "metadata": {"a": 1}, "frobnicate": [1]}
    assert served_llama.post(COMPLETIONS, json=body).status_code == 200


def test_a_priority_is_refused_in_words(served_llama):
    error = served_llama.post(COMPLETIONS, json={"prompt": "x", "priority": 5}).json()["error"]
    assert error["message"] == "priority is 5, and requests are taken in the order of their arrival: use 0"
    assert served_llama.post(COMPLETIONS, json={"prompt": "x", "priority": 0, "max_tokens": 1}).status_code == 200


def test_another_model_is_a_404(served_llama):
    answer = served_llama.post(COMPLETIONS, json={"prompt": "x", "model": "other"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"


def test_a_bad_word_of_a_token_that_never_comes_changes_nothing(served_llama):
    body = {"prompt": "x", "max_tokens": 4, "temperature": 0}
    usual = served_llama.post(COMPLETIONS, json=body).json()["choices"]
    assert served_llama.post(COMPLETIONS, json={**body, "bad_words": [BEYOND]}).json()["choices"] == usual


def test_a_temperature_near_nothing_is_greedy(served_llama):
    body = {"prompt": "x", "max_tokens": 8}
    texts = [
        served_llama.post(COMPLETIONS, json={**body, "temperature": temperature}).json()["choices"][0]["text"]
        for temperature in (0, 1e-300, math.ulp(0.0), 1e-4)
    ]
    assert len(set(texts)) == 1


def test_a_stream_that_is_refused_has_the_status(served_llama):
    answer = served_llama.post(COMPLETIONS, json={"prompt": "", "stream": True})
    assert answer.status_code == 400 and json.loads(answer.text)["error"]["param"] == "prompt"


@pytest.mark.parametrize(
    ("asked", "max_tokens", "reason"),
    [
        (
            1,
            256,
            "prompt has 1 token and max_tokens is 256: together 257, more than the context of 256, "
            "which leaves the answer 255 tokens",
        ),
        (
            255,
            2,
            "prompt has 255 tokens and max_tokens is 2: together 257, more than the context of 256, "
            "which leaves the answer 1 token",
        ),
        (
            256,
            1,
            "prompt has 256 tokens, and the context of 256 leaves room for 255 and an answer of one; shorten it, "
            "or ask for its end with truncate_prompt_tokens",
        ),
    ],
)
def test_the_numbers_of_a_refusal_add_up(served_llama, asked, max_tokens, reason):
    answer = served_llama.post(COMPLETIONS, json={"prompt": [5] * asked, "max_tokens": max_tokens})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["code"] == "context_length_exceeded" and error["message"] == reason
    fits = {"prompt": [5] * min(asked, 255), "max_tokens": 256 - min(asked, 255), "ignore_eos": True}
    usage = served_llama.post(COMPLETIONS, json=fits).json()["usage"]
    assert usage["total_tokens"] == 256
