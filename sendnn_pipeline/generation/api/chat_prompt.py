"""From a chat to the one prompt that its template makes of it."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.apart import render_apart
from sendnn_pipeline.generation.api.conversation import ASSISTANT, ImageReference, check_messages
from sendnn_pipeline.generation.api.images import PlacedImages, check_places, place_images, read_images
from sendnn_pipeline.generation.api.prompts import encode_prompts
from sendnn_pipeline.generation.api.refusals import invalid, unsupported
from sendnn_pipeline.generation.api.rendering import Rendering, TemplateError, render
from sendnn_pipeline.generation.api.tools import tools_of
from sendnn_pipeline.generation.config import generation_config
from sendnn_pipeline.generation.messages import PromptImage
from sendnn_pipeline.generation.plan import generation_plan

TOOLS = re.compile(r"\btools\b")
# What a template is given in any case.
TAKEN = frozenset(Rendering.__struct_fields__) | {"conversations", "chat_template", "return_assistant_tokens_mask"}


class Chat(Protocol):
    """The fields of a body that its prompt is made of."""

    messages: list[dict[str, Any]]
    add_generation_prompt: bool
    continue_final_message: bool
    add_special_tokens: bool
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    documents: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool
    reasoning_effort: str | None


@dataclass(frozen=True)
class EncodedChat:
    """A chat as the engine takes it."""

    ids: list[int]
    images: Sequence[PromptImage] = ()


async def encode_chat(front: Frontend, chat: Chat, truncate_to: int | None) -> EncodedChat:
    """Return the token ids of a chat, and its images.

    Args:
        front: knows the model's template and the tokenizer.
        chat: a body.
        truncate_to: tokens that are left of it, of its end; None refuses what is too long.

    Raises:
        RequestError: 400, naming the field that is at fault; what the template itself refuses, in its own words.
    """
    planned = generation_plan(front.run).images
    references: list[ImageReference] | None = None if planned is None else []
    rendering = _rendering(front, chat, references)
    if references and truncate_to is not None:
        raise unsupported("truncate_prompt_tokens", "would cut images; leave it out beside images")
    pictures = await read_images(front, references) if references else []
    own = chat.chat_template is not None
    try:
        text = await (render_apart(rendering) if own else asyncio.to_thread(render, rendering))
    except TemplateError as error:
        param = "chat_template" if own else "messages"
        raise RequestError(400, str(error), param=param, code="invalid_value") from None
    if not text:
        raise RequestError(400, "the chat template makes no text of messages", param="messages", code="empty_input")
    placed = PlacedImages(text, [])
    if planned is not None:
        placed = place_images(planned.layout, text, pictures, [one.param for one in references or ()])
    # A template writes the special tokens itself.
    special = chat.add_special_tokens
    (ids,) = await encode_prompts(front, [placed.text], truncate_to, lambda _: "messages", special=special)
    check_places(front, ids, placed.images)
    return EncodedChat(ids, placed.images)


def _rendering(front: Frontend, chat: Chat, references: list[ImageReference] | None) -> Rendering:
    messages = check_messages(chat.messages, references)
    if chat.continue_final_message:
        if chat.add_generation_prompt:
            message = "goes on with the last message, and add_generation_prompt begins a new one: set that to false"
            raise invalid("continue_final_message", message)
        if messages[-1]["role"] != ASSISTANT:
            raise invalid("continue_final_message", f"needs a last message of the {ASSISTANT}")
    tools = chat.tools if tools_of(chat).functions else None
    variables = dict(chat.chat_template_kwargs or {})
    taken = sorted(TAKEN & variables.keys())
    if taken:
        raise invalid(f"chat_template_kwargs.{taken[0]}", "is a field of the request, or no variable of a template")
    if chat.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", chat.reasoning_effort)
    return Rendering(
        template_of(front, chat),
        messages,
        tools,
        chat.documents,
        chat.add_generation_prompt,
        chat.continue_final_message,
        {**generation_plan(front.run).facts.template.special_tokens, **variables},
    )


def template_of(front: Frontend, chat: Chat) -> str:
    """Return the template that a chat is written by.

    Raises:
        RequestError: 400, the request may not bring one, the model has none, or it takes no tools.
    """
    tools = bool(tools_of(chat).functions)
    if chat.chat_template is None:
        text = generation_plan(front.run).facts.template.text(tools=tools)
        if not text:
            message = f"{front.run.served_name} has no chat template; use /v1/completions"
            raise RequestError(400, message, param="messages", code="unsupported_task")
    elif generation_config(front.run.config).request_templates:
        text = chat.chat_template
    else:
        raise unsupported("chat_template", "is the server's to choose (engine.request_templates=true lets it be)")
    if tools and not TOOLS.search(text):
        raise unsupported(
            "tools", f"are not written by the chat template of {front.run.served_name}; describe them in a message"
        )
    return text
