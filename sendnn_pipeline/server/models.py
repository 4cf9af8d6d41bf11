"""Routes about the model, whatever runs it: models, tokenize, detokenize."""

from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sendnn_pipeline.frontend.errors import RequestError
from sendnn_pipeline.frontend.frontend import Frontend
from sendnn_pipeline.frontend.slices import TooLongError
from sendnn_pipeline.server.answer import in_time
from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.state import ServerState, state_of

# Longer texts and lists are no prompts.
MAX_TOKENS = 131_072


class TokenizeRequest(msgspec.Struct):
    """The body of /tokenize."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(msgspec.Struct):
    """The body of /detokenize."""

    tokens: list[int]
    model: str | None = None


def _card(state: ServerState) -> dict[str, Any]:
    run = state.front.run
    return {
        "id": run.served_name,
        "object": "model",
        "created": state.created,
        "owned_by": "sendnn_pipeline",
        "root": run.config.model.path,
        "max_model_len": run.plan.max_input_tokens,
    }


async def list_models(request: Request) -> JSONResponse:
    """List the one model served."""
    return JSONResponse({"object": "list", "data": [_card(state_of(request))]})


async def get_model(request: Request) -> JSONResponse:
    """Describe one model."""
    state = state_of(request)
    state.front.check_model(request.path_params["name"])
    return JSONResponse(_card(state))


async def tokenize(request: Request) -> Response:
    """Return the token ids of a text."""
    front = state_of(request).front
    body = await read_body(request, TokenizeRequest, front.run.config.serve.max_body_bytes)
    front.check_model(body.model)
    ids, strings = await in_time(request, _tokenize(front, body))
    content = {"count": len(ids), "max_model_len": front.max_input_tokens, "tokens": ids, "token_strs": strings}
    return Response(orjson.dumps(content), media_type="application/json")


async def _tokenize(front: Frontend, body: TokenizeRequest) -> tuple[list[int], list[str] | None]:
    try:
        (ids,) = await front.tokenizer.encode([body.prompt], None, special=body.add_special_tokens, fits=MAX_TOKENS)
    except TooLongError as error:
        message = f"prompt has {error.what}; {MAX_TOKENS} is the most"
        raise RequestError(400, message, param="prompt", code="context_length_exceeded") from None
    except (UnicodeEncodeError, TypeError) as error:
        message = f"prompt is not valid Unicode: {error}"
        raise RequestError(400, message, param="prompt", code="invalid_value") from None
    return ids, await front.tokenizer.tokens(ids) if body.return_token_strs else None


async def detokenize(request: Request) -> JSONResponse:
    """Return the text of token ids."""
    front = state_of(request).front
    body = await read_body(request, DetokenizeRequest, front.run.config.serve.max_body_bytes)
    front.check_model(body.model)
    if len(body.tokens) > MAX_TOKENS:
        message = f"tokens has {len(body.tokens)} ids and {MAX_TOKENS} is the most"
        raise RequestError(400, message, param="tokens", code="too_many_items")
    vocab_size = front.run.model.vocab_size
    wrong = next((token_id for token_id in body.tokens if not 0 <= token_id < vocab_size), None)
    if wrong is not None:
        raise RequestError(
            400,
            f"tokens has id {wrong}; the vocabulary ends at {vocab_size - 1}",
            param="tokens",
            code="invalid_value",
        )
    return JSONResponse({"prompt": await in_time(request, front.tokenizer.decode(body.tokens))})


routes = [
    Route("/v1/models", list_models),
    Route("/v1/models/{name:path}", get_model),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
]
