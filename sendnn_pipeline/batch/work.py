"""What is asked in a chunk of lines, computed."""

import asyncio
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from sendnn_pipeline.batch.config import BatchConfig
from sendnn_pipeline.batch.lines import OPENAI_URL, Line
from sendnn_pipeline.batch.sink import Answer, Sink, type_vectors
from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.server.endpoints import ENDPOINTS
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.scoring import activated
from sendnn_pipeline.server.state import ServerState
from sendnn_pipeline.server.tokenizer import TextTokenizer


@dataclass
class Work:
    """What is to be done, and where it goes."""

    file: Path
    size: int
    sink: Sink
    options: BatchConfig
    longest: int
    vocab_size: int
    tokenizer: TextTokenizer


async def answer_lines(state: ServerState, work: Work, chunk: list[Line]) -> list[Answer]:
    """Answer one chunk, its texts computed as one request; a line that cannot be has its problem instead."""
    cut = work.longest if work.options.truncate else None
    texts = [text for line in chunk for text in line.texts]
    tokenized = iter(await work.tokenizer.encode(texts, cut))
    asked: list[list[list[int]]] = []
    problems = []
    for line in chunk:
        ids = [[*given][:cut] for given in line.token_ids] or list(islice(tokenized, len(line.texts)))
        problem = line.problem or _problem_of(line, ids, work)
        problems.append(problem)
        asked.append([] if problem else ids)
    items = [ids for line_items in asked for ids in line_items]
    others = [
        _ask(state, work, line) for line, problem in zip(chunk, problems, strict=True) if line.url and not problem
    ]
    asking = asyncio.gather(*others)
    rows: type_vectors | None = None
    if items:
        try:
            rows = (await state.engine.compute(items, math.inf)).rows
        except ApiError as error:
            raise ServeError(f"the engine gave up: {error.message}") from None
        if work.sink.labels:
            rows = activated(rows, state.run.model.activation)
    answered = iter(await asking)
    answers = []
    place = 0
    for line, ids, problem in zip(chunk, asked, problems, strict=True):
        if line.url and not problem:
            answers.append(next(answered))
            continue
        found = None if problem or rows is None else rows[place : place + len(ids)]
        place += len(ids)
        answers.append(Answer(line, found, problem=problem, num_tokens=0 if problem else sum(map(len, ids))))
    return answers


async def _ask(state: ServerState, work: Work, line: Line) -> Answer:
    """Answer a line as the route that it names answers a request."""
    endpoint = ENDPOINTS.get(line.url)
    if endpoint is None:
        return Answer(line, problem=f"its url is {line.url!r}; known are {', '.join(ENDPOINTS)}")
    said = {"truncate_prompt_tokens": -1} if work.options.truncate else {}
    try:
        body = msgspec.convert({**said, **(line.body or {})}, endpoint.shape)
        pending = await endpoint.compute(state, body, math.inf)
    except msgspec.ValidationError as error:
        return Answer(line, problem=f"its body is wrong: {error}")
    except ApiError as error:
        if error.status >= 500:
            raise ServeError(f"the engine gave up: {error.message}") from None
        return Answer(line, problem=error.message)
    return Answer(line, content=endpoint.render(state, body, pending), num_tokens=pending.num_tokens)


def _problem_of(line: Line, items: list[list[int]], work: Work) -> str:
    if line.url:
        return "it asks for more than numbers of a text, and an array has one row a line" if work.sink.is_array else ""
    if line.openai and work.sink.labels:
        return f"its url is {OPENAI_URL}, and the model gives labels; /v1/classify gives those"
    longest = max(map(len, items))
    if longest > work.longest:
        return f"it has {longest} tokens and the longest Program takes {work.longest}; serve.truncate=true cuts it"
    if any(not 0 <= held < work.vocab_size for ids in items for held in ids):
        return f"it has a token id outside 0 to {work.vocab_size - 1}"
    if work.sink.is_array and len(items) != 1:
        return "it has several texts, and an array has one row a line"
    return ""
