"""Which tools a chat may call, and the grammar of a call that it has to make."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from sendnn_pipeline.frontend.errors import wrong_body
from sendnn_pipeline.generation.api.grammar_text import Grammar, json_grammar
from sendnn_pipeline.generation.api.refusals import check_count, invalid, unsupported

MAX_TOOLS = 1024
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
CHOICES = ("none", "auto", "required")


class Function(msgspec.Struct):
    """What a tool is called and takes."""

    name: str
    parameters: dict[str, Any] | None = None
    """A JSON schema; None takes nothing."""
    description: str | None = None
    strict: bool | None = None
    """Calls that have to be made follow the schema whether it is set or not."""


class Tool(msgspec.Struct):
    """A function that a model may call."""

    type: Literal["function"]
    function: Function


class Named(msgspec.Struct):
    """The name of a function."""

    name: str


class NamedTool(msgspec.Struct):
    """The tool that is to be called."""

    type: Literal["function"]
    function: Named


@dataclass(frozen=True)
class Tools:
    """What may be called in an answer, and what has to be."""

    functions: tuple[Function, ...] = ()
    """Empty where no call is looked for."""
    must_call: tuple[Function, ...] = ()
    """One of these is called; empty leaves it to the model."""
    parallel: bool = True
    """Whether an answer may have several calls."""

    def grammar(self, template: str) -> Grammar | None:
        """Return what an answer is that has to be a call: one JSON object, as models write it.

        Args:
            template: of chats, which tells the model whether a call has ``arguments`` or ``parameters``.
        """
        if not self.must_call:
            return None
        key = "parameters" if '"parameters"' in template and '"arguments"' not in template else "arguments"
        calls = [_call_schema(function, key) for function in self.must_call]
        definitions = {name: value for call in calls for name, value in call.pop("$defs").items()}
        schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return json_grammar("tools", {**schema, "$defs": definitions} if definitions else schema)


class Chat(Protocol):
    """The fields of a body that ask for tools."""

    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool


def tools_of(chat: Chat) -> Tools:
    """Return the tools of a chat.

    Raises:
        RequestError: 400, naming what is at fault.
    """
    functions = _functions(chat.tools or ())
    choice = chat.tool_choice if chat.tool_choice is not None else "auto"
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise invalid("tool_choice", f"is {choice[:50]!r}; none, auto, required or a function may be")
        if choice == "required" and not functions:
            raise invalid("tool_choice", "is required, and there are no tools")
        found = () if choice == "none" else functions
        return Tools(found, found if choice == "required" else (), chat.parallel_tool_calls)
    name = _named(choice)
    must_call = tuple(function for function in functions if function.name == name)
    if not must_call:
        raise invalid("tool_choice", f"names {name[:50]!r}, which is not one of the tools")
    return Tools(functions, must_call, chat.parallel_tool_calls)


def _functions(tools: Sequence[dict[str, Any]]) -> tuple[Function, ...]:
    check_count(tools, MAX_TOOLS, "tools")
    functions: dict[str, Function] = {}
    for index, tool in enumerate(tools):
        param = f"tools[{index}]"
        function = _convert(tool, Tool, param).function
        if not NAME.fullmatch(function.name):
            raise invalid(f"{param}.function.name", "is not of 1 to 128 letters, digits and . : _ -")
        if function.name in functions:
            raise invalid(f"{param}.function.name", f"is {function.name!r}, as that of an earlier tool")
        functions[function.name] = function
    return tuple(functions.values())


def _named(choice: dict[str, Any]) -> str:
    if choice.get("type") not in (None, "function"):
        raise unsupported("tool_choice.type", f"is {str(choice['type'])[:50]!r}; only function is implemented")
    named: NamedTool = _convert({"type": "function", **choice}, NamedTool, "tool_choice")
    return named.function.name


def _convert(value: dict[str, Any], shape: type[Any], param: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise wrong_body(error, param) from None


def _call_schema(function: Function, key: str) -> dict[str, Any]:
    """Return the schema of a call, with the definitions of its parameters, under names of their own, as ``$defs``."""
    parameters, definitions = dict(function.parameters or {}), {}
    for where in ("$defs", "definitions"):
        for name, value in (parameters.pop(where, None) or {}).items():
            definitions[f"{function.name}.{name}"] = value
            parameters = _renamed(parameters, f"#/{where}/{name}", f"#/$defs/{function.name}.{name}")
            definitions = _renamed(definitions, f"#/{where}/{name}", f"#/$defs/{function.name}.{name}")
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, key: {"type": "object", **parameters}},
        "required": ["name", key],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _renamed(schema: Any, before: str, after: str) -> Any:
    if isinstance(schema, dict):
        return {
            key: after if (key, value) == ("$ref", before) else _renamed(value, before, after)
            for key, value in schema.items()
        }
    return [_renamed(value, before, after) for value in schema] if isinstance(schema, list) else schema
