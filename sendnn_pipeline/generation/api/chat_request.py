"""What a chat asks, and what of it is refused before anything is made of it."""

from typing import Any

from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.fields import GenerationFields, Number, NumLogprobs
from sendnn_pipeline.generation.api.refusals import check_unset, invalid, unsupported
from sendnn_pipeline.generation.api.sampling import check_fields


class ChatRequest(GenerationFields, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: list[dict[str, Any]]
    """Each has a ``role``, and as ``content`` a text or a list of text parts, which are joined by line breaks."""
    max_completion_tokens: Number | None = None
    """The newer name of ``max_tokens``."""
    logprobs: bool = False
    top_logprobs: NumLogprobs | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    """Templates write them."""
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    """Written into the prompt; calls of them are found in the answer."""
    tool_choice: str | dict[str, Any] | None = None
    """``none``, ``auto``, ``required``, or the function that is to be called."""
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None


def check_chat(front: Frontend, body: ChatRequest) -> None:
    """Refuse fields that contradict each other, or that no model here has.

    Raises:
        RequestError: 400.
    """
    check_fields(front, body)
    check_unset(body, ("audio", "functions", "function_call"))
    if body.modalities not in (None, ["text"]):
        raise unsupported("modalities", "is text alone here")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "needs logprobs=true")
    if getattr(body, limit_of(body)) == 0:
        raise invalid(limit_of(body), "is 0, which gives nothing")


def limit_of(body: ChatRequest) -> str:
    """Return the field that limits an answer.

    Raises:
        RequestError: 400, two fields say two lengths.
    """
    older, newer = body.max_tokens, body.max_completion_tokens
    if older != newer and None not in (older, newer):
        raise invalid("max_tokens", f"is {older}, and max_completion_tokens, its newer name, is {newer}; send one")
    return "max_tokens" if newer is None else "max_completion_tokens"
