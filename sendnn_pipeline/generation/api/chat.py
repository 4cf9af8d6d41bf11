"""POST /v1/chat/completions."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.answers import STOP, Answer, Piece, follow, gather, make_answers
from sendnn_pipeline.generation.api.bench import CHAT_BENCH
from sendnn_pipeline.generation.api.chat_prompt import encode_chat, template_of
from sendnn_pipeline.generation.api.chat_request import ChatRequest, check_chat, limit_of
from sendnn_pipeline.generation.api.conversation import ASSISTANT
from sendnn_pipeline.generation.api.logprobs import (
    ChatLogprobs,
    PromptLogprobs,
    TokenNames,
    chat_logprobs,
    prompt_logprobs,
)
from sendnn_pipeline.generation.api.prompts import prepare_prompts, truncation_of
from sendnn_pipeline.generation.api.sampling import sampling_of
from sendnn_pipeline.generation.api.tool_calls import CallFinder, NewToolCall, ToolCall
from sendnn_pipeline.generation.api.tools import tools_of
from sendnn_pipeline.generation.api.usage import GenerationUsage, measured, usage_of, usage_of_chunk


class ChatMessage(TypedDict):
    """A message, or what is new of it."""

    content: str | None
    """Null where there are calls alone."""
    role: NotRequired[str]
    tool_calls: NotRequired[Sequence[ToolCall]]


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    stop_reason: int | str | None
    token_ids: NotRequired[list[int]]


class Chat(TypedDict):
    """The answer of /v1/chat/completions; events of its stream have a ``delta`` for each ``message``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: GenerationUsage
    prompt_logprobs: NotRequired[PromptLogprobs]
    prompt_token_ids: NotRequired[list[int]]


async def _prepare(front: Frontend, body: ChatRequest) -> Prepared:
    check_chat(front, body)
    limit = limit_of(body)
    max_tokens: int | None = getattr(body, limit)
    encoded = await encode_chat(front, body, truncation_of(front, body, max_tokens))
    grammar = tools_of(body).grammar(template_of(front, body))
    sampling = await sampling_of(front, body, (body.top_logprobs or 0) if body.logprobs else None, grammar)
    return prepare_prompts(
        front,
        body,
        [encoded.ids],
        sampling=sampling,
        max_tokens=max_tokens,
        name_of=lambda _: "messages",
        limit=limit,
        images=encoded.images,
    )


async def encode_prompt(front: Frontend, body: ChatRequest) -> list[int]:
    """Return the token ids that a chat's template makes of it."""
    front.check_model(body.model)
    return (await encode_chat(front, body, None)).ids


class _Writer:
    """Writes the answers to one request."""

    def __init__(self, front: Frontend, body: ChatRequest) -> None:
        self._body, self._names = body, TokenNames(front.tokenizer, body.return_tokens_as_token_ids)
        self._tools = tools_of(body)
        self._finders: dict[int, CallFinder] = {}
        """Of each answer that has begun, where tools may be called."""
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": front.now(), "model": front.run.served_name}

    def document(self, kind: str, choices: list[Any], **more: Any) -> Any:
        """Return an answer or an event."""
        return {**self._head, "object": kind, "choices": choices, **more}

    def message(self, answer: Answer, piece: Piece) -> ChatMessage:
        """Return the message of a piece of an answer: text, and calls of tools."""
        names = {function.name for function in self._tools.functions}
        if not names:
            return {"content": piece.text}
        finder = self._finders.get(answer.index)
        if finder is None:
            finder = self._finders[answer.index] = CallFinder(names, parallel=self._tools.parallel)
        text, calls = finder.feed(piece.text)
        if piece.finish:
            rest, more = finder.finish()
            text, calls = text + rest, calls + more
        return {"content": text if text.strip() else None, "tool_calls": calls} if calls else {"content": text}

    def delta(self, answer: Answer, piece: Piece) -> ChatMessage:
        """Return the message of a piece of an answer, its calls numbered."""
        new = self.message(answer, piece)
        calls = new.get("tool_calls", ())
        if calls:
            first = self._finders[answer.index].num_calls - len(calls)
            new["tool_calls"] = [NewToolCall(index=number, **call) for number, call in enumerate(calls, start=first)]
        return new

    def choice(
        self, answer: Answer, piece: Piece, kind: Literal["message", "delta"], new: ChatMessage
    ) -> dict[str, Any]:
        """Return an answer, or a piece of it."""
        calls = answer.index in self._finders and self._finders[answer.index].num_calls > 0
        choice = {
            "index": answer.index,
            kind: new,
            "logprobs": chat_logprobs(self._names, piece.logprobs) if self._body.logprobs else None,
            "finish_reason": "tool_calls" if calls and piece.finish == STOP else piece.finish or None,
            "stop_reason": answer.stop_reason if piece.finish else None,
        }
        return choice | ({"token_ids": piece.token_ids} if self._body.return_token_ids else {})

    def of_prompt(self, answer: Answer) -> dict[str, Any]:
        """Return what is asked of the prompt."""
        asked: dict[str, Any] = {}
        if self._body.prompt_logprobs is not None:
            asked["prompt_logprobs"] = prompt_logprobs(self._names, answer.prompt_logprobs)
        if self._body.return_token_ids:
            asked["prompt_token_ids"] = list(answer.prompt)
        return asked


async def _render(front: Frontend, body: ChatRequest, call: Call) -> Chat:
    answers, writer = await gather(front, body, call), _Writer(front, body)
    choices = []
    for answer in answers:
        message: ChatMessage = {"role": ASSISTANT, **writer.message(answer, answer.whole)}
        choices.append(writer.choice(answer, answer.whole, "message", message))
    usage = usage_of(answers, body.n)
    chat: Chat = writer.document("chat.completion", choices, usage=usage, **writer.of_prompt(answers[0]))
    return chat


async def _stream(front: Frontend, body: ChatRequest, call: Call) -> AsyncIterator[Any]:
    kind = "chat.completion.chunk"
    answers, writer = make_answers(front, body, call), _Writer(front, body)
    begun: set[int] = set()
    async for answer, piece in follow(front, call, answers):
        delta, first = writer.delta(answer, piece), answer.index not in begun
        has_news = delta["content"] or "tool_calls" in delta or piece.finish or piece.logprobs
        if first or has_news or body.return_token_ids:
            of_prompt = {} if begun else writer.of_prompt(answer)
            if first:
                delta = {"role": ASSISTANT, **delta}
            choice = writer.choice(answer, piece, "delta", delta)
            begun.add(answer.index)
            yield writer.document(kind, [choice], **of_prompt, **usage_of_chunk(body, answers))
    if body.stream_options is not None and body.stream_options.include_usage:
        yield writer.document(kind, [], usage=usage_of(answers, body.n), **measured(front, call, answers))


def _ask(_front: Frontend, line: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    if "messages" not in line:
        return None
    asked = frozenset(ChatRequest.__struct_fields__) & line.keys() - {"user", "stream", "stream_options"}
    return {name: line[name] for name in asked}, asked


def _fields(_body: ChatRequest, content: Any) -> dict[str, Any]:
    messages = [choice["message"] for choice in content["choices"]]
    columns = {"completion": [message["content"] for message in messages]}
    if any("tool_calls" in message for message in messages):
        columns["tool_calls"] = [message.get("tool_calls", []) for message in messages]
    return {name: values[0] if len(values) == 1 else values for name, values in columns.items()}


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/chat/completions": Endpoint(
        ChatRequest,
        _prepare,
        _render,
        _stream,
        answer=Chat,
        summary="The next message of a chat.",
        lines=Lines(_ask, _fields, asked_by=(frozenset({"messages"}),)),
        tokenize=encode_prompt,
        bench=CHAT_BENCH,
    )
}
