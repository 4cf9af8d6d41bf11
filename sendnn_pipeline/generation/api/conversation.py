"""The messages of a chat as templates take them: checked, without nulls, their text in one piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sendnn_pipeline.generation.api.refusals import check_count, empty, invalid, unsupported

MAX_MESSAGES = 4096
# Where the text of a part is, by the type of the part.
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
IMAGE_PART = "image_url"
DETAILS = ("auto", "low", "high")
ASSISTANT = "assistant"
# Beside role and content, what templates write as text.
STRINGS = ("name", "tool_call_id", "refusal", "reasoning", "reasoning_content")
FUNCTION = "function"


@dataclass(frozen=True)
class ImageReference:
    """Where a message says that an image is."""

    param: str
    """The part, as the client knows it."""
    url: str
    detail: str
    """``low`` makes it small before it is read."""


def check_messages(
    messages: Sequence[Mapping[str, Any]], images: list[ImageReference] | None = None
) -> list[dict[str, Any]]:
    """Return messages for a template; what they have beside role and content stays.

    Args:
        messages: of the request.
        images: takes those of all messages, in their order; None where the model reads text alone.

    Raises:
        RequestError: 400, naming the message or part that is at fault.
    """
    if not messages:
        raise empty("messages")
    check_count(messages, MAX_MESSAGES, "messages")
    return [_message(message, f"messages[{index}]", images) for index, message in enumerate(messages)]


def _message(message: Mapping[str, Any], param: str, images: list[ImageReference] | None) -> dict[str, Any]:
    made = {name: value for name, value in message.items() if value is not None}
    role = made.get("role")
    if not isinstance(role, str) or not role:
        raise invalid(f"{param}.role", "is missing, or is no string")
    for name in STRINGS:
        if not isinstance(made.get(name, ""), str):
            raise invalid(f"{param}.{name}", "is no string")
    if "content" in made:
        made["content"] = _content(made["content"], f"{param}.content", images)
    elif role == ASSISTANT:
        # It may have called tools and written nothing, and templates cut and join what it wrote.
        made["content"] = ""
    else:
        raise invalid(f"{param}.content", "is missing")
    if "tool_calls" in made:
        made["tool_calls"] = _tool_calls(made["tool_calls"], f"{param}.tool_calls")
    if made.get("tool_calls") == []:
        # It called nothing, and templates ask whether there are calls, not how many.
        del made["tool_calls"]
    return made


def _content(content: Any, param: str, images: list[ImageReference] | None) -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(param, "is neither a string nor a list of parts")
    if images is not None and any(isinstance(part, dict) and part.get("type") == IMAGE_PART for part in content):
        return [_image_or_text(part, f"{param}[{index}]", images) for index, part in enumerate(content)]
    return "\n".join(_part(part, f"{param}[{index}]") for index, part in enumerate(content))


def _image_or_text(part: Any, param: str, images: list[ImageReference]) -> dict[str, str]:
    """Return a part as templates of models that read images take it, which write a placeholder for each image."""
    if not (isinstance(part, dict) and part.get("type") == IMAGE_PART):
        return {"type": "text", "text": _part(part, param)}
    value = part.get(IMAGE_PART)
    value = value if isinstance(value, dict) else {"url": value}
    url = value.get("url")
    if not isinstance(url, str) or not url:
        raise invalid(f"{param}.{IMAGE_PART}.url", "is missing, or is no string")
    detail = value.get("detail") or "auto"
    if detail not in DETAILS:
        raise invalid(f"{param}.{IMAGE_PART}.detail", f"must be one of {', '.join(DETAILS)}")
    images.append(ImageReference(f"{param}.{IMAGE_PART}.url", url, detail))
    return {"type": "image"}


def _part(part: Any, param: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise invalid(param, "is no part: it has no type")
    if kind not in TEXT_PARTS:
        raise unsupported(param, f"is of type {kind}, and this model reads text alone")
    text = part.get(TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise invalid(f"{param}.{TEXT_PARTS[kind]}", "is missing, or is no string")
    return text


def _tool_calls(calls: Any, param: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise invalid(param, "is no list of objects")
    return [_tool_call(call, f"{param}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: Mapping[str, Any], param: str) -> dict[str, Any]:
    if not isinstance(call.get("id"), str):
        raise invalid(f"{param}.id", "is missing, or is no string")
    if call.get("type") != FUNCTION:
        raise unsupported(f"{param}.type", f"is not {FUNCTION}, the one type of tool here")
    function = call.get(FUNCTION)
    if not isinstance(function, dict):
        raise invalid(f"{param}.{FUNCTION}", "is missing, or is no object")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise invalid(f"{param}.{FUNCTION}.name", "is missing, or is no string")
    arguments = _arguments(function.get("arguments"), f"{param}.{FUNCTION}.arguments")
    return {**call, FUNCTION: {**function, "arguments": arguments}}


def _arguments(arguments: Any, param: str) -> Any:
    """Templates write arguments as objects; over HTTP they are JSON in a string."""
    if not arguments and isinstance(arguments, str | None):
        return {}
    if isinstance(arguments, dict):
        return arguments
    if not isinstance(arguments, str):
        raise invalid(param, "is neither JSON in a string nor an object")
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError as error:
        raise invalid(param, f"is not JSON: {error}") from None
