"""Answers that follow a schema, a pattern, a choice or a grammar, on both routes, against other readers of these."""

import json
import re

import jsonschema_rs
import pytest

from tests.generation.api.models import events
from tests.served import EAGER_FLOAT32

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
CHAT = [{"role": "user", "content": "What is assert?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": -99, "maximum": 99},
        "kind": {"enum": ["small", "large", None]},
        "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{2}$"},
        "nothing": {"const": None},
    },
    "required": ["number", "kind", "flags", "code", "nothing"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
CHOICES = ["yes", "yes, please", 'no/"never"\n', "Grüße 🙂"]
GBNF = 'root ::= word (" " word)*\nword ::= "a" | "be"'


def texts_of(served, path, fields) -> list[str]:
    """The whole answers, which have ended and are those of the stream."""
    bare = {"prompt": "What is"} if path == COMPLETIONS else {"messages": CHAT}
    body = {**bare, "temperature": 1.0, "seed": 4, **fields}
    answer = served.post(path, json=body)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * len(choices)
    key = (lambda part: part["text"]) if path == COMPLETIONS else (lambda part: part["message"]["content"])
    texts = [key(choice) for choice in choices]
    pieces = [""] * len(texts)
    for event in events(served, path, body):
        (part,) = event["choices"]
        pieces[part["index"]] += part["text"] if path == COMPLETIONS else part["delta"]["content"]
    assert pieces == texts
    return texts


def test_the_real_client_gets_what_its_schema_describes(served_llama):
    client = served_llama.client()
    answer = client.chat.completions.create(model="llama", messages=CHAT, response_format=FORMAT, temperature=1, n=4)
    texts = [choice.message.content for choice in answer.choices]
    for text in texts:
        jsonschema_rs.validate(SCHEMA, json.loads(text))
    assert len(set(texts)) > 1


@pytest.mark.parametrize("path", [COMPLETIONS, CHATS])
@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": FORMAT},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA), "disable_any_whitespace": True}},
        {"guided_json": SCHEMA, "presence_penalty": 1.5, "repetition_penalty": 1.3, "logit_bias": {"40": -50}},
        {"guided_json": SCHEMA, "n": 3, "top_k": 20, "user": None},
        {"guided_json": SCHEMA, "temperature": 0, "min_tokens": 150},
    ],
    ids="-".join,
)
def test_json(served_llama, path, fields):
    for text in texts_of(served_llama, path, fields):
        jsonschema_rs.validate(SCHEMA, json.loads(text))
        assert "disable_any_whitespace" not in str(fields) or not re.search(r"[{,:] ", text)


def test_a_json_object(served_llama):
    """Of any kind, and so of any length: what there is of it is how an object begins."""
    body = {"messages": CHAT, "response_format": {"type": "json_object"}, "max_tokens": 30}
    text = served_llama.post(CHATS, json=body).json()["choices"][0]["message"]["content"]
    assert re.match(r'\{\s*("|\}$)', text)
    assert texts_of(served_llama, CHATS, {"structured_outputs": {"json": {"type": "object", "maxProperties": 0}}})


@pytest.mark.parametrize("path", [COMPLETIONS, CHATS])
@pytest.mark.parametrize("prefix", ["guided_", ""])
def test_patterns_choices_and_grammars(served_llama, path, prefix):
    def asked(name, value):
        return {f"guided_{name}": value} if prefix else {"structured_outputs": {name: value}}

    pattern = r"(GET|POST) /[a-z]{1,8}\?id=\d{3}"
    assert all(re.fullmatch(pattern, text) for text in texts_of(served_llama, path, asked("regex", pattern) | {"n": 3}))
    assert set(texts_of(served_llama, path, asked("choice", CHOICES) | {"n": 8})) <= set(CHOICES)
    grammar = asked("grammar", GBNF) | {"logit_bias": {"1": 40}}
    assert all(re.fullmatch(r"(a|be)( (a|be))*", text) for text in texts_of(served_llama, path, grammar))


def test_beside_what_else_can_be_asked(served_llama):
    body = {"prompt": "x", "guided_choice": ["abcdef"], "logprobs": 2, "return_token_ids": True}
    choice = served_llama.post(COMPLETIONS, json=body).json()["choices"][0]
    assert choice["text"] == "abcdef" == "".join(choice["logprobs"]["tokens"][:-1])
    assert len(choice["token_ids"]) == len(choice["logprobs"]["token_logprobs"]) and choice["token_ids"][-1] in (1, 3)
    stopped = served_llama.post(COMPLETIONS, json={**body, "stop": "cd"}).json()["choices"][0]
    assert (stopped["text"], stopped["stop_reason"]) == ("ab", "cd")
    short = served_llama.post(COMPLETIONS, json={**body, "max_tokens": 1}).json()["choices"][0]
    assert short["finish_reason"] == "length" and "abcdef".startswith(short["text"])
    nothing = {**body, "allowed_token_ids": [500]}
    answer = served_llama.post(COMPLETIONS, json=nothing)
    assert answer.status_code == 500 and "no token is allowed here by grammar" in answer.json()["error"]["message"]
    assert served_llama.post(COMPLETIONS, json=body).status_code == 200


def chain(length: int) -> dict:
    """A schema in a schema, over and over, by names."""
    last = {f"d{length}": {"type": "string"}}
    links = {f"d{at}": {"properties": {"a": {"$ref": f"#/$defs/d{at + 1}"}}, "required": ["a"]} for at in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": links | last}


@pytest.mark.parametrize(
    "schema",
    [{"type": "string", "allOf": [{"pattern": f".*a.{{{number}}}b"} for number in range(30, 60)]}, chain(1500)],
    ids=["time", "stack"],
)
def test_a_schema_that_attacks_is_refused_and_the_server_goes_on(served_llama, schema):
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = served_llama.post(CHATS, json={"messages": CHAT, "response_format": asked}).json()["error"]
    assert error["param"] == "response_format.json_schema.schema" and "5 s or 2 GiB" in error["message"]
    assert texts_of(served_llama, CHATS, {"guided_choice": ["x"]}) == ["x"]


def test_lines_of_a_batch_file(llama, tmp_path, whole_run):
    lines = [
        {"id": 1, "prompt": "if", "guided_choice": ["one"]},
        {"custom_id": "2", "url": CHATS, "body": {"messages": CHAT, "response_format": FORMAT}},
        {"id": 3, "prompt": "if", "guided_regex": "["},
    ]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("serve=batch", *EAGER_FLOAT32, f"model.path={llama}", "scheduler.max_num_seqs=8", f"serve.input={source}")
    ended = whole_run(*words, f"serve.output={output}")
    assert ended.returncode == 0, ended.stderr
    found = {line.get("custom_id", line.get("id")): line for line in map(json.loads, output.read_text().splitlines())}
    assert found[1]["completion"] == "one"
    content = found["2"]["response"]["body"]["choices"][0]["message"]["content"]
    jsonschema_rs.validate(SCHEMA, json.loads(content))
    assert "guided_regex" in (tmp_path / "out.jsonl.errors.jsonl").read_text()
