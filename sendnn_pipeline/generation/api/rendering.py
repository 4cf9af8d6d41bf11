"""A chat as one text, written by a template in transformers' sandbox. No torch."""

from typing import Any

import msgspec

# What a template that takes texts as they are writes somewhere.
PROBE = "sendnn-pipeline-probe"
MAX_CHARS = 2**24


class TemplateError(Exception):
    """A template refused a chat, or failed on it; the message is for the client."""


class Rendering(msgspec.Struct, frozen=True):
    """What a template is given."""

    template: str
    messages: list[dict[str, Any]]
    """Their contents are strings, or parts where there are images."""
    tools: list[dict[str, Any]] | None
    documents: list[dict[str, Any]] | None
    add_generation_prompt: bool
    continue_final_message: bool
    variables: dict[str, Any]
    """Special tokens, and what the request adds."""


def render(rendering: Rendering) -> str:
    """Return the text of a chat.

    Raises:
        TemplateError: the template refuses it, in its own words, or fails.
    """
    import jinja2

    try:
        if _wants_parts(rendering):
            parts = [_in_parts(message) for message in rendering.messages]
            rendering = msgspec.structs.replace(rendering, messages=parts)
        text = _render(rendering)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the chat template is no template: {error}") from None
    except jinja2.TemplateError as error:
        raise TemplateError(error.message or type(error).__name__) from None
    except Exception as error:  # whatever a template can do with its values
        raise TemplateError(f"the chat template fails on this chat: {type(error).__name__}: {error}") from None
    if len(text) > MAX_CHARS:
        raise TemplateError(f"the chat template writes more than {MAX_CHARS} characters")
    return text


def _render(rendering: Rendering) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(
        conversations=[rendering.messages],
        tools=rendering.tools,  # type: ignore[arg-type]  # a list of one of the types that it takes
        documents=rendering.documents,
        chat_template=rendering.template,
        add_generation_prompt=rendering.add_generation_prompt,
        continue_final_message=rendering.continue_final_message,
        **rendering.variables,
    )
    text: str = rendered[0][0]
    return text


def _wants_parts(rendering: Rendering) -> bool:
    """Return whether the template loops over the parts of a content, so that a string would come apart in letters."""
    if "content" not in rendering.template or " in " not in rendering.template:
        return False
    probe = [{"role": "user", "content": PROBE}]
    asked = msgspec.structs.replace(rendering, messages=probe, tools=None, continue_final_message=False)
    in_parts = msgspec.structs.replace(asked, messages=[_in_parts(message) for message in probe])
    try:
        return PROBE not in _render(asked) and PROBE in _render(in_parts)
    except Exception:  # it has rules of its own, and says so when it is given the real chat
        return False


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message.get("content"), str):
        # None, or in parts already, as of a message with images.
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}
