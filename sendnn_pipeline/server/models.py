"""Routes about the model and the server: models, tokenize, detokenize, version, info, metrics."""

from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sendnn_pipeline import __version__
from sendnn_pipeline.programs.program import plan_pooling
from sendnn_pipeline.server.answering import check_model
from sendnn_pipeline.server.body import read_body
from sendnn_pipeline.server.errors import ApiError
from sendnn_pipeline.server.inputs import MAX_INPUTS
from sendnn_pipeline.server.state import ServerState, state_of
from sendnn_pipeline.server.tokenizer import THREADS


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
    return {
        "id": state.run.served_name,
        "object": "model",
        "created": state.created,
        "owned_by": "sendnn_pipeline",
        "root": state.run.config.model.path,
        "max_model_len": state.longest,
    }


async def list_models(request: Request) -> JSONResponse:
    """List the one model served."""
    return JSONResponse({"object": "list", "data": [_card(state_of(request))]})


async def get_model(request: Request) -> JSONResponse:
    """Describe one model."""
    state = state_of(request)
    check_model(state, request.path_params["name"])
    return JSONResponse(_card(state))


async def tokenize(request: Request) -> JSONResponse:
    """Return the token ids of a text."""
    state = state_of(request)
    body = await read_body(request, TokenizeRequest, state.run.config.serve.max_body_bytes)
    check_model(state, body.model)
    try:
        (ids,) = await state.tokenizer.encode([body.prompt], None, special=body.add_special_tokens)
    except (UnicodeEncodeError, TypeError) as error:
        raise ApiError(400, f"prompt is no valid Unicode: {error}", param="prompt", code="invalid_value") from None
    strings = state.tokenizer.tokens(ids) if body.return_token_strs else None
    return JSONResponse({"count": len(ids), "max_model_len": state.longest, "tokens": ids, "token_strs": strings})


async def detokenize(request: Request) -> JSONResponse:
    """Return the text of token ids."""
    state = state_of(request)
    body = await read_body(request, DetokenizeRequest, state.run.config.serve.max_body_bytes)
    check_model(state, body.model)
    vocab_size = state.run.model.vocab_size
    wrong = next((token_id for token_id in body.tokens if not 0 <= token_id < vocab_size), None)
    if wrong is not None:
        raise ApiError(
            400,
            f"tokens has id {wrong}; the vocabulary ends at {vocab_size - 1}",
            param="tokens",
            code="invalid_value",
        )
    return JSONResponse({"prompt": await state.tokenizer.decode(body.tokens)})


async def version(_request: Request) -> JSONResponse:
    """Return the version."""
    return JSONResponse({"version": __version__})


async def info(request: Request) -> JSONResponse:
    """Return resolved limits, Programs with measured costs, and versions."""
    state = state_of(request)
    config, facts, ready = state.run.config, state.run.model, state.engine.ready
    steps = ready.steps if ready else []
    compiled = state.startup.programs.get("compile", {})
    programs = [
        {
            "name": program.name,
            "compile_seconds": compiled.get(program.name),
            "steps": [
                {
                    "batch_size": step.batch_size,
                    "length": step.length,
                    "ms": step.ms,
                    "tokens_per_second": step.batch_size * step.length / step.ms * 1000,
                }
                for step in steps
                if step.program == program.name
            ],
        }
        for program in plan_pooling(state.run.shapes).programs
    ]
    return JSONResponse(
        {
            "version": __version__,
            "model": {
                "id": state.run.served_name,
                "architecture": facts.architecture,
                "task": config.engine.task,
                "dimensions": state.run.dimensions,
                "labels": list(facts.labels),
                "dtype": config.model.dtype,
                "pooling": config.engine.pooling,
                "normalize": config.engine.normalize,
            },
            "limits": {
                "max_input_tokens": state.longest,
                "max_model_len": config.model.max_model_len,
                "max_queue": config.serve.max_queue,
                "max_body_bytes": config.serve.max_body_bytes,
                "request_timeout_seconds": config.serve.request_timeout_seconds,
            },
            "backend": config.backend.name,
            "programs": programs,
            "engine": (ready.engine | {"resident_bytes": ready.resident_bytes}) if ready else None,
            "startup": state.startup.progress(),
            **state.about,
            **_as_tei(state),
        }
    )


def _as_tei(state: ServerState) -> dict[str, Any]:
    """Return the facts under the names that text-embeddings-inference's clients look for."""
    config, facts = state.run.config, state.run.model
    kind: dict[str, Any] = {"embedding": {"pooling": config.engine.pooling}}
    if state.run.classifies:
        labels = {str(place): label for place, label in enumerate(facts.labels)}
        about = {"id2label": labels, "label2id": {label: int(place) for place, label in labels.items()}}
        kind = {"reranker" if len(labels) == 1 else "classifier": about}
    return {
        "model_id": config.model.path,
        "model_sha": config.model.revision,
        "model_dtype": config.model.dtype,
        "model_type": kind,
        "max_concurrent_requests": config.serve.max_queue,
        "max_input_length": state.longest,
        "max_batch_tokens": state.run.step_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": MAX_INPUTS,
        "auto_truncate": False,
        "tokenization_workers": THREADS,
    }


async def metrics(request: Request) -> Response:
    """Return Prometheus text."""
    registry = state_of(request).metrics.registry
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


routes = [
    Route("/v1/models", list_models),
    Route("/v1/models/{name:path}", get_model),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/version", version),
    Route("/info", info),
    Route("/metrics", metrics),
]
