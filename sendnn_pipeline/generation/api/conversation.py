"""The messages of a chat as templates take them: checked, without nulls, their text in one piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sendnn_pipeline.generation.api.refusals import check_count, empty, invalid, unsupported

MAX_MESSAGES = 4096
TEXT_PARTS = ("text", "input_text", "output_text")
IMAGE_PART = "image_url"
DETAILS = ("auto", "low", "high")
ASSISTANT = "assistant"


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
    if "content" in made:
        made["content"] = _content(made["content"], f"{param}.content", images)
    elif role != ASSISTANT:
        raise invalid(f"{param}.content", "is missing")
    if "tool_calls" in made:
        made["tool_calls"] = _tool_calls(made["tool_calls"], f"{param}.tool_calls")
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
    if not isinstance(part.get("text"), str):
        raise invalid(f"{param}.text", "is missing, or is no string")
    text: str = part["text"]
    return text


def _tool_calls(calls: Any, param: str) -> list[Any]:
    """Templates write arguments as objects; over HTTP they are JSON in a string."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise invalid(param, "is no list of objects")
    made = []
    for index, call in enumerate(calls):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                arguments = msgspec.json.decode(function["arguments"] or "{}")
            except msgspec.DecodeError as error:
                raise invalid(f"{param}[{index}].function.arguments", f"is not JSON: {error}") from None
            made.append({**call, "function": {**function, "arguments": arguments}})
        else:
            made.append(call)
    return made
