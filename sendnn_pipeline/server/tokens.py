"""Routes between text and token ids, as vLLM and as text-embeddings-inference write them."""

from collections.abc import Sequence
from typing import Any, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from sendnn_pipeline.engines.vocabulary import why_outside
from sendnn_pipeline.frontend.bodies import check_beside, convert_body
from sendnn_pipeline.frontend.errors import OpenAIError, RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.frontend.tei_errors import TeiError, tei_error
from sendnn_pipeline.frontend.token import Token
from sendnn_pipeline.server.answer import in_time
from sendnn_pipeline.server.api_route import ApiRoute
from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.errors import ERROR_FORM
from sendnn_pipeline.server.state import ServerState, state_of

# No prompt is longer.
MAX_TOKENS = 131_072
# What else /tokenize takes beside one of these, by its name.
FORMS = {
    "prompt": (),
    "inputs": (),
    "messages": (
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "chat_template_kwargs",
        "tools",
    ),
}
# Of all texts together, where every token is described, whatever its length.
MAX_CHARS = 4 * MAX_TOKENS


class TokenizeRequest(msgspec.Struct):
    """The body of /tokenize; with ``inputs`` instead of ``prompt`` it is text-embeddings-inference's.

    With ``messages`` it is a chat, for models that have a template for it; what follows on the first is of chats, too.
    """

    prompt: str | None = None
    inputs: str | list[str] | None = None
    messages: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    model: str | None = None
    add_special_tokens: bool | None = None
    """True unless it is set; of a chat false, as templates write them."""
    return_token_strs: bool = False
    prompt_name: str | None = None


class DetokenizeRequest(msgspec.Struct):
    """The body of /detokenize."""

    tokens: list[int]
    model: str | None = None


class DecodeRequest(msgspec.Struct):
    """The body of /decode, which is text-embeddings-inference's."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True


class Tokenized(TypedDict):
    """The answer of /tokenize to ``prompt``."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(TypedDict):
    """The answer of /detokenize."""

    prompt: str


async def tokenize(request: Request) -> JSONResponse:
    """Return the token ids of a text, or every token of texts."""
    front = state_of(request).front
    body = await read_body(request, TokenizeRequest, front.run.config.serve.max_body_bytes)
    _check_form(body)
    if body.inputs is not None:
        request.scope[ERROR_FORM] = tei_error
    front.check_model(body.model)
    try:
        work = _tokenize(state_of(request), body) if body.inputs is None else _describe(front, body)
        return JSONResponse(await in_time(request, work))
    except TooLongError as error:
        message = f"prompt has {error.what}; {MAX_TOKENS} is the most"
        raise RequestError(400, message, param="prompt", code="context_length_exceeded") from None
    except (UnicodeEncodeError, TypeError) as error:
        name = "prompt" if body.inputs is None else "inputs"
        raise RequestError(400, f"{name} is not valid Unicode: {error}", param=name, code="invalid_value") from None


def _check_form(body: TokenizeRequest) -> None:
    form = next((name for name in FORMS if getattr(body, name) is not None), None)
    if form is None:
        raise RequestError(400, "prompt is missing (or inputs, or messages)", param="prompt", code="invalid_value")
    check_beside(body, form, [name for other, more in FORMS.items() if other != form for name in (other, *more)])
    if body.prompt_name is not None:
        message = "prompt_name is not for /tokenize: put the prompt before the text"
        raise RequestError(400, message, param="prompt_name", code="unsupported_value")


async def _tokenize(state: ServerState, body: TokenizeRequest) -> Tokenized | list[list[Token]]:
    front = state.front
    if body.messages is not None:
        ids = await _tokenize_chat(state, body)
    else:
        assert body.prompt is not None
        special = body.add_special_tokens is not False
        (ids,) = await front.tokenizer.encode([body.prompt], None, special=special, fits=MAX_TOKENS)
    strings = await front.tokenizer.tokens(ids) if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": front.run.plan.max_model_len, "tokens": ids, "token_strs": strings}


async def _tokenize_chat(state: ServerState, body: TokenizeRequest) -> list[int]:
    """Ask the engine's own route of chats."""
    for endpoint in state.endpoints.values():
        if endpoint.tokenize is not None:
            asked = {name: getattr(body, name) for name in body.__struct_fields__ if hasattr(endpoint.body, name)}
            return await endpoint.tokenize(state.front, convert_body(asked, endpoint.body))
    raise RequestError(400, "messages are for models that chat", param="messages", code="unsupported_task")


async def _describe(front: Frontend, body: TokenizeRequest) -> Tokenized | list[list[Token]]:
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if not texts:
        raise RequestError(400, "inputs is empty", param="inputs", code="empty_input")
    num_chars = sum(map(len, texts))
    if num_chars > MAX_CHARS:
        message = f"inputs has {num_chars} characters; {MAX_CHARS} is the most"
        raise RequestError(400, message, param="inputs", code="context_length_exceeded")
    return await front.tokenizer.describe(texts, special=body.add_special_tokens is not False)


async def detokenize(request: Request) -> JSONResponse:
    """Return the text of token ids."""
    front = state_of(request).front
    body = await read_body(request, DetokenizeRequest, front.run.config.serve.max_body_bytes)
    front.check_model(body.model)
    _check_ids(front, body.tokens, "tokens")
    return JSONResponse({"prompt": await in_time(request, front.tokenizer.decode(body.tokens))})


async def decode(request: Request) -> JSONResponse:
    """Return the texts of lists of token ids."""
    front = state_of(request).front
    request.scope[ERROR_FORM] = tei_error
    body = await read_body(request, DecodeRequest, front.run.config.serve.max_body_bytes)
    if not body.ids:
        raise RequestError(400, "ids is empty", param="ids", code="empty_input")
    kinds = {type(item) for item in body.ids}
    if len(kinds) > 1:
        raise RequestError(400, "ids mixes token ids and lists; use one kind", param="ids", code="invalid_value")
    lists: Any = body.ids if kinds == {list} else [body.ids]
    _check_count(sum(map(len, lists)), "ids")
    for ids in lists:
        _check_ids(front, ids, "ids")
    skip = body.skip_special_tokens
    return JSONResponse([await front.tokenizer.decode(ids, skip_special=skip) for ids in lists])


def _check_count(num_ids: int, name: str) -> None:
    if num_ids > MAX_TOKENS:
        message = f"{name} has {num_ids} ids and {MAX_TOKENS} is the most"
        raise RequestError(400, message, param=name, code="too_many_items")


def _check_ids(front: Frontend, ids: Sequence[int], name: str) -> None:
    _check_count(len(ids), name)
    if wrong := why_outside(ids, front.run.model.vocab_size):
        raise RequestError(400, f"{name} {wrong}", param=name, code="invalid_value")


routes = [
    ApiRoute(
        "/tokenize",
        tokenize,
        methods=["POST"],
        body=TokenizeRequest,
        answer=Tokenized | list[list[Token]],
        errors=(OpenAIError, TeiError),
    ),
    ApiRoute("/detokenize", detokenize, methods=["POST"], body=DetokenizeRequest, answer=Detokenized),
    ApiRoute("/decode", decode, methods=["POST"], body=DecodeRequest, answer=list[str], errors=(TeiError,)),
]
