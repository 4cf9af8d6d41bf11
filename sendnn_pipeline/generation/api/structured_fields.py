"""The fields that ask for answers of a form."""

from typing import Any, Literal

import msgspec


class JsonSchema(msgspec.Struct):
    """A schema, and what it is called."""

    name: str
    schema: dict[str, Any] | bool
    description: str | None = None
    strict: bool | None = None
    """Answers follow the schema whether it is set or not."""


class ResponseFormat(msgspec.Struct):
    """OpenAI's field."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(msgspec.Struct):
    """vLLM's field: one of the first five."""

    json: dict[str, Any] | bool | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    whitespace_pattern: str | None = None
    structural_tag: Any = None
    disable_additional_properties: bool = False
