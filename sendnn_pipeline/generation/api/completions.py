"""POST /v1/completions."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.endpoint import Endpoint, Lines, Prepared
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.answers import Answer, Piece, decoder_of, follow, gather, make_answers, request_of
from sendnn_pipeline.generation.api.bench import TEXT_BENCH
from sendnn_pipeline.generation.api.completion_prompts import Prompts, encode_completion, name_of_prompt
from sendnn_pipeline.generation.api.fields import MAX_ANSWERS, GenerationFields, NumLogprobs
from sendnn_pipeline.generation.api.logprobs import (
    CompletionLogprobs,
    PromptLogprobs,
    TokenNames,
    completion_logprobs,
    prompt_logprobs,
)
from sendnn_pipeline.generation.api.prompts import prepare_prompts, truncation_of
from sendnn_pipeline.generation.api.refusals import check_unset, invalid, unsupported
from sendnn_pipeline.generation.api.sampling import check_fields, sampling_of
from sendnn_pipeline.generation.api.usage import GenerationUsage, measured, usage_of, usage_of_chunk
from sendnn_pipeline.generation.messages import TokenLogprobs


class CompletionRequest(GenerationFields, kw_only=True):
    """The body of /v1/completions."""

    prompt: Prompts
    add_special_tokens: bool = True
    echo: bool = False
    logprobs: NumLogprobs | None = None
    best_of: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    suffix: str | None = None
    prompt_embeds: Any = None

    @property
    def generates(self) -> bool:
        """Whether it asks for more than its own prompt; of what does not, the engine computes one token for nobody."""
        return not (self.echo and self.max_tokens == 0)


class CompletionChoice(TypedDict):
    """One answer, or what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None
    stop_reason: int | str | None
    prompt_logprobs: NotRequired[PromptLogprobs | None]
    token_ids: NotRequired[list[int]]
    prompt_token_ids: NotRequired[list[int]]


class Completion(TypedDict):
    """The answer of /v1/completions, or an event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[GenerationUsage | None]


async def _prepare(front: Frontend, body: CompletionRequest) -> Prepared:
    check_fields(front, body)
    check_unset(body, ("suffix", "prompt_embeds"))
    if body.best_of not in (None, body.n):
        raise unsupported("best_of", f"is {body.best_of}; only as many as n are implemented")
    if body.max_tokens == 0 and not body.echo:
        raise invalid("max_tokens", "is 0, which gives something only with echo")
    max_tokens = body.max_tokens if body.generates else 1
    truncate_to = truncation_of(front, body, max_tokens)
    prompts = await encode_completion(front, body.prompt, truncate_to, special=body.add_special_tokens)
    sampling = await sampling_of(front, body, body.logprobs)
    if body.echo:
        most = max(sampling.logprobs, sampling.prompt_logprobs)
        sampling = msgspec.structs.replace(sampling, prompt_logprobs=most)
    return prepare_prompts(
        front,
        body,
        prompts,
        sampling=sampling,
        max_tokens=max_tokens,
        name_of=lambda index: name_of_prompt(body.prompt, index),
    )


class _Writer:
    """Writes the answers to one request."""

    def __init__(self, front: Frontend, body: CompletionRequest, call: Call) -> None:
        self._front, self._body, self._request = front, body, request_of(call)
        self._names = TokenNames(front.tokenizer, body.return_tokens_as_token_ids)
        self._head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": front.now(), "model": front.run.served_name}
        self._num_chars: dict[int, int] = {}
        """Characters of each answer's tokens so far, for the offsets of those that follow."""

    def document(self, choices: list[Any], **more: Any) -> Any:
        """Return an answer or an event."""
        return {**self._head, "object": "text_completion", "choices": choices, **more}

    def choice(self, answer: Answer, piece: Piece, *, first: bool) -> CompletionChoice:
        """Return an answer, or a piece of it; the first one repeats the prompt where that is asked for."""
        body, echoes = self._body, first and self._body.echo
        token_ids = piece.token_ids if body.generates else []
        choice: CompletionChoice = {
            "index": answer.index,
            "text": (self._prompt_text(answer) if echoes else "") + (piece.text if body.generates else ""),
            "logprobs": None,
            "finish_reason": (piece.finish or None) if body.generates else "length",  # type: ignore[typeddict-item]
            "stop_reason": answer.stop_reason if piece.finish else None,
        }
        if body.logprobs is not None:
            prompt: list[TokenLogprobs | int] = [answer.prompt[0], *answer.prompt_logprobs] if echoes else []
            choice["logprobs"] = self._logprobs(answer.index, [*prompt, *(piece.logprobs if body.generates else ())])
        if body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(self._names, answer.prompt_logprobs)
        if body.return_token_ids:
            choice["token_ids"] = token_ids
            if first:
                choice["prompt_token_ids"] = list(answer.prompt)
        return choice

    def _logprobs(self, index: int, tokens: list[TokenLogprobs | int]) -> CompletionLogprobs:
        begin = self._num_chars.get(index, 0)
        made = completion_logprobs(self._names, tokens, begin)
        num_chars = (len(self._names.text(one if isinstance(one, int) else one.token_id)) for one in tokens)
        self._num_chars[index] = begin + sum(num_chars)
        return made

    def _prompt_text(self, answer: Answer) -> str:
        """Return the client's own text; of token ids what they decode to."""
        prompt = self._body.prompt
        number = answer.index // self._body.n
        text = prompt if isinstance(prompt, str) else prompt[number]
        return text if isinstance(text, str) else decoder_of(self._front, self._body)(list(answer.prompt))


async def _render(front: Frontend, body: CompletionRequest, call: Call) -> Completion:
    answers, writer = await gather(front, body, call), _Writer(front, body, call)
    choices = [writer.choice(answer, answer.whole, first=True) for answer in answers]
    document: Completion = writer.document(choices, usage=usage_of(answers, body.n, generates=body.generates))
    return document


async def _stream(front: Frontend, body: CompletionRequest, call: Call) -> AsyncIterator[Completion]:
    answers, writer = make_answers(front, body, call), _Writer(front, body, call)
    begun: set[int] = set()
    async for answer, piece in follow(front, call, answers):
        first = answer.index not in begun
        if piece.text or piece.finish or piece.logprobs or body.return_token_ids or (first and body.echo):
            begun.add(answer.index)
            choice = writer.choice(answer, piece, first=first)
            yield writer.document([choice], **usage_of_chunk(body, answers, generates=body.generates))
    if body.stream_options is not None and body.stream_options.include_usage:
        usage = usage_of(answers, body.n, generates=body.generates)
        yield writer.document([], usage=usage, **measured(front, call, answers))


def _ask(_front: Frontend, line: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]] | None:
    if "prompt" not in line:
        return ({"prompt": line["text"]}, frozenset({"text"})) if "text" in line else None
    asked = frozenset(CompletionRequest.__struct_fields__) & line.keys() - {"user", "stream", "stream_options"}
    return {name: line[name] for name in asked}, asked


def _fields(body: CompletionRequest, content: Any) -> dict[str, Any]:
    texts = [choice["text"] for choice in content["choices"]]
    return {"completion": texts[0] if len(texts) == 1 else texts}


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/completions": Endpoint(
        CompletionRequest,
        _prepare,
        _render,
        _stream,
        answer=Completion,
        summary="Texts, continued.",
        lines=Lines(_ask, _fields, asked_by=(frozenset({"prompt"}), frozenset({"text"}))),
        bench=TEXT_BENCH,
    )
}
