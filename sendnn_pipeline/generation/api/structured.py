"""Which grammar an answer follows: the fields of OpenAI and of vLLM that ask for one."""

import json
from typing import Any

from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.fields import GenerationFields
from sendnn_pipeline.generation.api.grammar_text import (
    Grammar,
    choice_grammar,
    json_grammar,
    lark_grammar,
    regex_grammar,
)
from sendnn_pipeline.generation.api.refusals import invalid, unsupported
from sendnn_pipeline.generation.api.structured_fields import ResponseFormat, StructuredOutputs
from sendnn_pipeline.generation.grammar.check import check_apart
from sendnn_pipeline.generation.plan import generation_plan

OBJECT = {"type": "object"}


async def grammar_of(front: Frontend, body: GenerationFields, required: Grammar | None = None) -> str:
    """Return the grammar that an answer follows, as the engine is told; empty where it is free.

    Args:
        front: knows what was checked already.
        body: of the request.
        required: what else the request asks for, such as the call of a tool.

    Raises:
        RequestError: 400, several fields set one, it is invalid, or it takes too much to parse.
    """
    asked = [*_of_format(body.response_format), *_of_outputs(body.structured_outputs), *_of_guided(body)]
    if required is not None:
        asked.append(required)
    if len(asked) > 1:
        raise invalid(asked[1].param, f"is set beside {asked[0].param}; one grammar decides what an answer may be")
    if not asked:
        return ""
    (grammar,) = asked
    if body.ignore_eos:
        raise invalid("ignore_eos", f"is set beside {grammar.param}, whose answers end")
    if not generation_plan(front.run).facts.end_ids:
        raise unsupported(grammar.param, f"needs a token that ends a text, and {front.run.served_name} names none")
    wrong = await front.checked.once(grammar.text, check_apart)
    if wrong:
        raise invalid(grammar.param, f"is not usable: {wrong}")
    return grammar.text


def _of_format(asked: ResponseFormat | None) -> list[Grammar]:
    if asked is None:
        return []
    if asked.type != "json_schema" and asked.json_schema is not None:
        raise invalid("response_format.json_schema", f"is not for type={asked.type}; use type=json_schema")
    if asked.type == "text":
        return []
    if asked.type == "json_object":
        return [json_grammar("response_format", OBJECT)]
    if asked.json_schema is None:
        raise invalid("response_format.json_schema", "is missing")
    return [json_grammar("response_format.json_schema.schema", asked.json_schema.schema)]


def _of_outputs(asked: StructuredOutputs | None) -> list[Grammar]:
    if asked is None:
        return []
    name = "structured_outputs"
    for other in ("structural_tag", "disable_additional_properties"):
        if getattr(asked, other):
            raise unsupported(f"{name}.{other}", "is not implemented")
    whitespace = "" if asked.disable_any_whitespace else asked.whitespace_pattern
    if asked.disable_any_whitespace and asked.whitespace_pattern is not None:
        raise invalid(f"{name}.whitespace_pattern", f"is set beside {name}.disable_any_whitespace")
    if whitespace is not None and asked.json is None and not asked.json_object:
        raise invalid(
            f"{name}.{'whitespace_pattern' if whitespace else 'disable_any_whitespace'}", "is for json and json_object"
        )
    found = []
    if asked.json is not None:
        found.append(json_grammar(f"{name}.json", _parsed(f"{name}.json", asked.json), whitespace))
    if asked.json_object:
        found.append(json_grammar(f"{name}.json_object", OBJECT, whitespace))
    found += _others(asked.regex, asked.choice, asked.grammar, f"{name}.")
    if not found:
        raise invalid(name, "has none of json, regex, choice, grammar and json_object")
    return found


def _of_guided(body: GenerationFields) -> list[Grammar]:
    found, whitespace = [], body.guided_whitespace_pattern
    if whitespace is not None and body.guided_json is None:
        raise invalid("guided_whitespace_pattern", "is for guided_json")
    if body.guided_json is not None:
        found.append(json_grammar("guided_json", _parsed("guided_json", body.guided_json), whitespace))
    return found + _others(body.guided_regex, body.guided_choice, body.guided_grammar, "guided_")


def _others(regex: str | None, choice: list[str] | None, grammar: str | None, prefix: str) -> list[Grammar]:
    found = []
    if regex is not None:
        found.append(regex_grammar(f"{prefix}regex", regex))
    if choice is not None:
        found.append(choice_grammar(f"{prefix}choice", choice))
    if grammar is not None:
        found.append(lark_grammar(f"{prefix}grammar", grammar))
    return found


def _parsed(param: str, schema: dict[str, Any] | bool | str) -> dict[str, Any] | bool:
    if not isinstance(schema, str):
        return schema
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise invalid(param, f"is not JSON: {error}") from None
    if not isinstance(parsed, dict | bool):
        raise invalid(param, "is no JSON schema: it is neither an object nor a boolean")
    return parsed
