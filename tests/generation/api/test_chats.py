"""/v1/chat/completions, asked by the real client, against transformers' own templates."""

import json

import pytest

from tests.generation.api.models import events

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is assert?"}]
PATH = "/v1/chat/completions"


def ids_of(llama_reference, messages, **options) -> list[int]:
    text = llama_reference.tokenizer.apply_chat_template(
        messages, tokenize=False, **{"add_generation_prompt": True, **options}
    )
    return llama_reference.tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_ids(served, messages, **options) -> list[int]:
    """The prompt that the server makes of a chat."""
    body = {"messages": messages, "max_tokens": 1, "return_token_ids": True, **options}
    answer = served.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt_token_ids"]


def bare_ids(served, text) -> list[int]:
    """The tokens of a text and nothing around it."""
    return served.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]


def test_the_real_client_gets_what_transformers_generates(served_llama, llama_reference):
    ids = ids_of(llama_reference, CHAT)
    assert ids.count(0) == 1
    expected = llama_reference.greedy(ids, 30)
    client = served_llama.client()
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(model=model, messages=CHAT, max_completion_tokens=30)
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and answer.object == "chat.completion"
    assert choice.message.content == llama_reference.tokenizer.decode(expected, skip_special_tokens=True)
    assert choice.finish_reason == ("stop" if expected[-1] in (1, 3) else "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), len(expected))
    stream = client.chat.completions.create(
        model=model, messages=CHAT, max_completion_tokens=30, stream=True, stream_options={"include_usage": True}
    )
    *parts, last = stream
    assert parts[0].choices[0].delta.role == "assistant"
    assert all(part.choices[0].delta.role is None for part in parts[1:])
    assert "".join(part.choices[0].delta.content for part in parts) == choice.message.content
    assert [part.choices[0].finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason == choice.finish_reason
    assert last.choices == [] and last.usage.completion_tokens == len(expected)


def test_logprobs_have_the_bytes_of_each_token(served_llama, llama_reference):
    ids = ids_of(llama_reference, CHAT)
    body = {"messages": CHAT, "max_tokens": 12, "logprobs": True, "top_logprobs": 3, "ignore_eos": True}
    choice = served_llama.post(PATH, json=body).json()["choices"][0]
    made = llama_reference.greedy(ids, 12, ())
    rows = llama_reference.logprobs(ids + made)[len(ids) - 1 : -1]
    content = choice["logprobs"]["content"]
    assert len(content) == 12
    for entry, row, token in zip(content, rows, made, strict=True):
        assert entry["token"] == llama_reference.tokenizer.decode([token])
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=1e-3)
        assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(row.topk(3).values.tolist(), abs=1e-3)
    whole = bytes(byte for entry in content for byte in entry["bytes"]).decode(errors="replace")
    assert whole == llama_reference.tokenizer.decode(made)
    parts = [part["choices"][0] for part in events(served_llama, PATH, body)]
    assert [entry for part in parts for entry in part["logprobs"]["content"]] == content
    bare = served_llama.post(PATH, json={**body, "top_logprobs": None}).json()["choices"][0]
    assert all(entry["top_logprobs"] == [] for entry in bare["logprobs"]["content"])


def test_prompt_logprobs_stand_beside_the_choices(served_llama, llama_reference):
    ids = ids_of(llama_reference, CHAT)
    body = {"messages": CHAT, "max_tokens": 1, "prompt_logprobs": 0}
    first, *others = served_llama.post(PATH, json=body).json()["prompt_logprobs"]
    assert first is None and [list(entries) for entries in others] == [[str(token)] for token in ids[1:]]


def test_several_answers(served_llama):
    body = {"messages": CHAT, "max_tokens": 12, "n": 3, "temperature": 1.0, "seed": 5, "ignore_eos": True}
    answer = served_llama.post(PATH, json=body).json()
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert len(set(texts)) == 3 and answer["usage"]["completion_tokens"] == 36
    parts = [part["choices"][0] for part in events(served_llama, PATH, body)]
    for index, text in enumerate(texts):
        mine = [part["delta"] for part in parts if part["index"] == index]
        assert "".join(delta["content"] for delta in mine) == text
        assert [delta.get("role") for delta in mine] == ["assistant"] + [None] * (len(mine) - 1)


def test_text_parts_are_their_text(served_llama):
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "assert?"}]
    whole = [{"role": "user", "content": "What is\nassert?"}]
    assert prompt_ids(served_llama, [{"role": "user", "content": parts}]) == prompt_ids(served_llama, whole)


def test_what_a_template_is_given(served_llama, llama_reference):
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
    documents = [{"title": "one", "text": "a document"}]
    found = prompt_ids(
        served_llama, CHAT, tools=[tool], documents=documents, chat_template_kwargs={"mood": "glad"}, tool_choice="auto"
    )
    assert found == ids_of(llama_reference, CHAT, tools=[tool], documents=documents, mood="glad")
    assert prompt_ids(served_llama, CHAT, tools=[tool], tool_choice="none") == ids_of(llama_reference, CHAT)
    assert prompt_ids(served_llama, CHAT, add_generation_prompt=False) == ids_of(
        llama_reference, CHAT, add_generation_prompt=False
    )
    assert prompt_ids(served_llama, CHAT, add_special_tokens=True) == ids_of(llama_reference, CHAT)


def test_calls_of_tools_are_objects_for_a_template(served_llama):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    chat = [*CHAT, {"role": "assistant", "content": None, "tool_calls": [call]}]
    template = "{{ messages[-1].tool_calls[0].function.arguments.at + 1 }}"
    assert prompt_ids(served_llama, chat, chat_template=template) == bare_ids(served_llama, "2")


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
def test_a_call_without_arguments_has_none(served_llama, arguments):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    chat = [*CHAT, {"role": "assistant", "tool_calls": [call]}]
    template = "{{ messages[-1].tool_calls[0].function.arguments | tojson }}"
    assert prompt_ids(served_llama, chat, chat_template=template) == bare_ids(served_llama, "{}")


@pytest.mark.parametrize("message", [{"content": None}, {}, {"content": None, "refusal": None, "tool_calls": None}])
def test_an_assistant_that_wrote_nothing_has_no_text(served_llama, message):
    template = "[{{ '<' + messages[-1].content.split('</think>')[-1] }}]"
    chat = [*CHAT, {"role": "assistant", **message}]
    assert prompt_ids(served_llama, chat, chat_template=template) == bare_ids(served_llama, "[<]")


def test_no_calls_at_all_are_a_message_without_calls(served_llama):
    template = "{% if 'tool_calls' in messages[-1] %}calls{% else %}{{ messages[-1].content }}{% endif %}"
    chat = [*CHAT, {"role": "assistant", "content": "No.", "tool_calls": []}]
    assert prompt_ids(served_llama, chat, chat_template=template) == bare_ids(served_llama, "No.")


def test_what_an_assistant_thought_and_refused_is_text(served_llama, llama_reference):
    parts = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "refusal", "refusal": "No."},
        {"type": "text", "text": "x"},
    ]
    whole = [*CHAT, {"role": "assistant", "content": "Hm.\nNo.\nx"}]
    found = prompt_ids(served_llama, [*CHAT, {"role": "assistant", "content": parts}])
    assert found == ids_of(llama_reference, whole)


@pytest.mark.parametrize("role", ["tool", "developer", "banana"])
def test_a_role_is_the_templates_to_refuse(served_llama, llama_reference, role):
    # And a tool's answer needs no id.
    chat = [*CHAT, {"role": role, "content": "4"}]
    assert prompt_ids(served_llama, chat) == ids_of(llama_reference, chat)


def test_the_last_message_goes_on(served_llama, llama_reference):
    chat = [*CHAT, {"role": "assistant", "content": "It is"}]
    options = {"add_generation_prompt": False, "continue_final_message": True}
    assert prompt_ids(served_llama, chat, **options) == ids_of(llama_reference, chat, **options)


def test_a_template_that_takes_parts_gets_parts(served_llama):
    template = "{% for m in messages %}{% for part in m.content %}[{{ part.text }}]{% endfor %}{% endfor %}"
    found = prompt_ids(served_llama, CHAT, chat_template=template)
    assert found == bare_ids(served_llama, "[Be brief.][What is assert?]")


def test_a_template_refuses_in_its_own_words(served_llama):
    error = served_llama.post(PATH, json={"messages": [{"role": "critic", "content": "No."}]})
    assert error.status_code == 400
    assert error.json()["error"]["message"] == "this model listens to no critic"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**11 }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{% if %}",
        "{{ nothing.at.all }}",
        "{{ messages + 1 }}",
        "",
    ],
)
def test_a_template_that_attacks_is_refused_and_the_server_goes_on(served_llama, template):
    answer = served_llama.post(PATH, json={"messages": CHAT, "chat_template": template, "max_tokens": 1})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in ("chat_template", "messages")
    assert served_llama.post(PATH, json={"messages": CHAT, "max_tokens": 1}).status_code == 200


def test_tokenize_takes_messages(served_llama, llama_reference):
    ids = ids_of(llama_reference, CHAT)
    answer = served_llama.post("/tokenize", json={"messages": CHAT, "return_token_strs": True}).json()
    assert (answer["tokens"], answer["count"]) == (ids, len(ids))
    assert answer["token_strs"] == llama_reference.tokenizer.convert_ids_to_tokens(ids)
    asked = {"messages": CHAT, "add_generation_prompt": False, "chat_template_kwargs": {"mood": "glad"}}
    expected = ids_of(llama_reference, CHAT, add_generation_prompt=False, mood="glad")
    assert served_llama.post("/tokenize", json=asked).json()["tokens"] == expected
    text = served_llama.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    assert text == llama_reference.tokenizer.decode(ids)
    refused = served_llama.post("/tokenize", json={"messages": []})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "messages"
    for body, param, form in (
        ({"prompt": "x", "messages": CHAT}, "messages", "prompt"),
        ({"inputs": "x", "messages": CHAT}, "messages", "inputs"),
        ({"inputs": "x", "prompt": "x"}, "inputs", "prompt"),
        ({"prompt": "x", "tools": []}, "tools", "prompt"),
        ({"inputs": "x", "add_generation_prompt": False}, "add_generation_prompt", "inputs"),
    ):
        answer = served_llama.post("/tokenize", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), answer.text
        assert error["message"] == f"{param} is not for a request with {form}; send one of them"
    for form in ({"prompt": "x"}, {"inputs": "x"}, {"messages": CHAT}):
        answer = served_llama.post("/tokenize", json={**form, "prompt_name": "query"})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "prompt_name"


def test_the_document_describes_both_routes(served_llama):
    document = served_llama.get("/openapi.json").json()
    for path in ("/v1/completions", PATH):
        assert "text/event-stream" in document["paths"][path]["post"]["responses"]["200"]["content"]
    assert json.dumps(document).count("prompt_tokens_details") >= 1
