"""The answers to a request as they grow: text that is sure, tokens, and why they end."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from sendnn_pipeline.frontend.call import Call
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.generation.api.detokenizer import Detokenizer
from sendnn_pipeline.generation.api.fields import GenerationFields
from sendnn_pipeline.generation.api.report import Course, report
from sendnn_pipeline.generation.api.sampling import texts_of
from sendnn_pipeline.generation.api.stops import StopFinder
from sendnn_pipeline.generation.messages import GenerationOutput, GenerationRequest, TokenLogprobs

STOP = "stop"


@dataclass
class Piece:
    """What a part of the engine's answer adds to one answer."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: str = ""
    """``stop`` or ``length`` with the last piece."""


@dataclass
class Answer:
    """One answer to one prompt."""

    index: int
    """Among the answers of its request."""
    prompt: Sequence[int]
    body: GenerationFields
    detokenizer: Detokenizer
    finder: StopFinder
    whole: Piece = field(default_factory=Piece)
    """All pieces so far."""
    stop_reason: int | str | None = None
    """The stop string, or the id of ``stop_token_ids``, that ended it."""
    cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    course: Course = field(default_factory=Course)

    def take(self, output: GenerationOutput) -> Piece:
        """Take a part of the engine's; return what it adds. What is behind a stop string is left out."""
        self.cached_tokens += output.cached_tokens
        self.course.take(output)
        self.prompt_logprobs += output.prompt_logprobs
        piece = Piece()
        for position, token_id in enumerate(output.token_ids):
            piece.token_ids.append(token_id)
            piece.logprobs += output.logprobs[position : position + 1]
            is_last = position + 1 == len(output.token_ids)
            text, piece.finish = self._text_of(token_id, output.finish if is_last else "")
            piece.text += text
            if piece.finish:
                break
        whole = self.whole
        whole.text, whole.finish = whole.text + piece.text, piece.finish
        whole.token_ids += piece.token_ids
        whole.logprobs += piece.logprobs
        return piece

    def _text_of(self, token_id: int, finish: str) -> tuple[str, str]:
        """Return the text that is sure with a token, and why the answer ends with it; empty where it goes on."""
        body, text = self.body, ""
        if finish == STOP:
            self.stop_reason = token_id if token_id in (body.stop_token_ids or ()) else None
        if finish != STOP or body.include_stop_str_in_output:
            text = self.detokenizer.feed(token_id)
        if finish:
            text += self.detokenizer.finish()
        num_tokens = len(self.whole.token_ids) + 1
        if num_tokens <= body.min_tokens:
            return text, finish
        sure, stop = self.finder.feed(text)
        if stop is not None:
            self.stop_reason = stop
            return sure, STOP
        return (sure + self.finder.flush(), finish) if finish else (sure, "")


def request_of(call: Call) -> GenerationRequest:
    """Return what the engine was sent."""
    assert isinstance(call.payload, GenerationRequest)
    return call.payload


def make_answers(front: Frontend, body: GenerationFields, call: Call) -> list[Answer]:
    """Return the answers to a request, before anything of them has come."""
    request, decode, stops = request_of(call), decoder_of(front, body), texts_of(body.stop)
    return [
        Answer(
            index * request.n + number,
            prompt,
            body,
            Detokenizer(decode, prompt),
            StopFinder(stops, include=body.include_stop_str_in_output),
        )
        for index, prompt in enumerate(request.prompts)
        for number in range(request.n)
    ]


def decoder_of(front: Frontend, body: GenerationFields) -> Callable[[Sequence[int]], str]:
    """Return what gives the text of a few tokens."""
    skip = body.skip_special_tokens
    return lambda ids: front.tokenizer.text_of(ids, skip_special=skip)


async def follow(front: Frontend, call: Call, answers: Sequence[Answer]) -> AsyncIterator[tuple[Answer, Piece]]:
    """Yield what comes of each answer, until all have ended.

    Raises:
        RequestError: the engine failed on the request, or its deadline passed.
    """
    num_left = len(answers)
    async for payload in call:
        output = msgspec.msgpack.decode(payload, type=GenerationOutput)
        answer = answers[output.sequence]
        if answer.whole.finish:
            # A stop string ended it, and the engine had not heard of that yet.
            continue
        piece = answer.take(output)
        if piece.finish:
            num_left -= 1
            if not output.finish:
                await front.client.stop(call, answer.index)
        if not num_left:
            finishes = [answer.whole.finish for answer in answers]
            report(call, [answer.course for answer in answers], finishes, max(request_of(call).max_tokens))
        yield answer, piece
        if not num_left:
            return


async def gather(front: Frontend, body: GenerationFields, call: Call) -> list[Answer]:
    """Return the whole answers.

    Raises:
        RequestError: the engine failed on the request, or its deadline passed.
    """
    answers = make_answers(front, body, call)
    async for _ in follow(front, call, answers):
        pass
    return answers
