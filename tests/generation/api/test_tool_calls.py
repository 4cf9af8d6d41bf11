"""Calls of tools, by the real client: those that have to be made, and those that are found in what a model writes."""

import json

import jsonschema_rs
import pytest

from sendnn_pipeline.generation.api.tool_calls import CallFinder
from tests.generation.api.models import events

PATH = "/v1/chat/completions"
CHAT = [{"role": "user", "content": "What is assert?"}]
PLACE = {"type": "object", "properties": {"city": {"enum": ["Bonn", "Kyiv"]}}, "required": ["city"]}
WEATHER = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/place"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["at", "days"],
    "additionalProperties": False,
    "$defs": {"place": {**PLACE, "additionalProperties": False}},
}
CLOCK = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC"]}},
    "required": ["zone"],
    "additionalProperties": False,
}
SCHEMAS = {"weather": WEATHER, "clock": CLOCK}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
HERMES = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
TEXTS = [
    (HERMES, "", ["clock"]),
    (f"Let me see.\n{HERMES}\n{HERMES}\n", "Let me see.\n", ["clock", "clock"]),
    (f"1 {HERMES}\n 2 {HERMES} 3", "1 2 3", ["clock", "clock"]),
    ('{"name": "clock", "parameters": {"zone": "UTC"}}', "", ["clock"]),
    (
        '<|python_tag|>{"name": "clock", "parameters": {}}; {"name": "weather", "parameters": {}}',
        "",
        ["clock", "weather"],
    ),
    ('\n[{"name": "clock", "arguments": {}}, {"name": "weather", "arguments": {}}]', "", ["clock", "weather"]),
    ('<|tool_call|>[{"name": "clock", "arguments": {}}]', "", ["clock"]),
    ('<tool_call>[{"arguments": {}, "name": "clock"}]', "", ["clock"]),
    ('[TOOL_CALLS][{"name": "clock", "arguments": "{}", "id": "x"}]', "", ["clock"]),
    ('{"type": "function", "function": {"name": "clock", "arguments": {}}}', "", ["clock"]),
    ('{"answer": 42}', '{"answer": 42}', []),
    ('{"name": "rocket", "arguments": {}}', '{"name": "rocket", "arguments": {}}', []),
    ('{"name": "clock", "arguments": {}} is a call', '{"name": "clock", "arguments": {}} is a call', []),
    ("<tool_call>never</tool_call> mind", "<tool_call>never</tool_call> mind", []),
    ("<tool_call>never", "<tool_call>never", []),
    ("1 <tool 2 < 3 {", "1 <tool 2 < 3 {", []),
    ("[1, 2]", "[1, 2]", []),
    ("[" * 100_000, "[" * 100_000, []),
    ("  ", "  ", []),
    ("", "", []),
]


def read(parts, parallel=True) -> tuple[str, list]:
    """What is found in a text that comes in parts."""
    finder, text, calls = CallFinder(SCHEMAS.keys(), parallel=parallel), "", []
    for found in (*(finder.feed(part) for part in parts), finder.finish()):
        text, calls = text + found[0], calls + found[1]
    return text, [call["function"] for call in calls]


@pytest.mark.parametrize(("whole", "text", "names"), TEXTS, ids=lambda value: str(value)[:30])
def test_what_models_write(whole, text, names):
    found = read([whole])
    assert (found[0], [function["name"] for function in found[1]]) == (text, names)
    assert all(isinstance(json.loads(function["arguments"]), dict) for function in found[1])
    if len(whole) < 1000:
        assert read(list(whole)) == found
        assert all(read([whole[:at], whole[at:]]) == found for at in range(len(whole)))


def test_what_is_no_call_is_out_at_once():
    finder = CallFinder(SCHEMAS.keys(), parallel=True)
    assert finder.feed('{"answer": ') == ('{"answer": ', []) and finder.feed("4 <tool") == ("4 ", [])
    assert finder.feed("s") == ("<tools", []) and finder.finish() == ("", [])


def test_one_call_where_one_is_asked_for():
    assert [function["name"] for function in read([HERMES * 3], parallel=False)[1]] == ["clock"]
    assert read([HERMES * 3], parallel=False)[0] == ""


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_has_to_be_made(served_llama, choice):
    client, names = served_llama.client(), set()
    asked = {"model": "llama", "messages": CHAT, "tools": TOOLS, "tool_choice": choice, "temperature": 1.0}
    for seed in range(3):
        answer = client.chat.completions.create(**asked, seed=seed)
        (made,) = answer.choices
        (call,) = made.message.tool_calls
        assert made.finish_reason == "tool_calls" and made.message.content is None
        jsonschema_rs.validate(SCHEMAS[call.function.name], json.loads(call.function.arguments))
        names.add(call.function.name)
        *parts, last = [part.choices[0] for part in client.chat.completions.create(**asked, seed=seed, stream=True)]
        assert [part.delta.role for part in (*parts, last)] == ["assistant"] + [None] * len(parts)
        (streamed,) = [one for part in (*parts, last) for one in part.delta.tool_calls or ()]
        assert (streamed.index, streamed.function.arguments) == (0, call.function.arguments)
        assert last.finish_reason == "tool_calls" and streamed.id and streamed.function.name == call.function.name
        assert not any(part.delta.content for part in (*parts, last))
    assert names == {"weather"} if isinstance(choice, dict) else names <= {"weather", "clock"}


def test_calls_that_a_model_makes_by_itself(served_llama):
    client = served_llama.client()
    text = f"So.\n{HERMES}\n{HERMES}"
    asked = {"model": "llama", "messages": CHAT, "tools": TOOLS, "extra_body": {"guided_choice": [text]}}
    (made,) = client.chat.completions.create(**asked).choices
    assert made.message.content == "So.\n" and made.finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in made.message.tool_calls] == [{"zone": "UTC"}] * 2
    assert len({call.id for call in made.message.tool_calls}) == 2
    parts = [part.choices[0] for part in client.chat.completions.create(**asked, stream=True)]
    assert "".join(part.delta.content or "" for part in parts) == "So.\n"
    calls = [one for part in parts for one in part.delta.tool_calls or ()]
    assert [(call.index, call.function.name) for call in calls] == [(0, "clock"), (1, "clock")]
    assert [part.finish_reason for part in parts if part.finish_reason] == ["tool_calls"]
    (one,) = client.chat.completions.create(**asked, parallel_tool_calls=False).choices
    assert len(one.message.tool_calls) == 1 and one.message.content == "So.\n"
    (free,) = client.chat.completions.create(**asked, tool_choice="none").choices
    assert free.message.content == text and free.message.tool_calls is None and free.finish_reason == "stop"
    # And it goes on.
    made = made.message.model_dump(exclude_none=True)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "12:00"} for call in made["tool_calls"]]
    again = client.chat.completions.create(**{**asked, "messages": [*CHAT, made, *results]}, max_tokens=4)
    assert again.choices[0].finish_reason == "length" and text.startswith(again.choices[0].message.content)


def test_a_call_that_is_cut_is_text(served_llama):
    body = {"messages": CHAT, "tools": TOOLS, "tool_choice": "required", "max_tokens": 5}
    choice = served_llama.post(PATH, json=body).json()["choices"][0]
    assert choice["finish_reason"] == "length" and choice["message"]["content"].startswith("{")
    assert "tool_calls" not in choice["message"]
    parts = [part["choices"][0] for part in events(served_llama, PATH, body)]
    assert "".join(part["delta"].get("content") or "" for part in parts) == choice["message"]["content"]


def test_a_template_that_takes_no_tools(served_llama):
    body = {"messages": CHAT, "tools": TOOLS, "chat_template": "{{ messages[0].content }}", "max_tokens": 1}
    error = served_llama.post(PATH, json=body).json()["error"]
    assert error["param"] == "tools" and "chat template" in error["message"]
    assert served_llama.post(PATH, json={**body, "tool_choice": "none"}).status_code == 200
