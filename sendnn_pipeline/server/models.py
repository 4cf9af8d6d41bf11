"""Routes about the model, whatever runs it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sendnn_pipeline.server.state import ServerState, state_of


def _card(state: ServerState, name: str) -> dict[str, Any]:
    run = state.front.run
    return {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": "sendnn_pipeline",
        "root": run.config.model.path,
        "max_model_len": run.plan.max_input_tokens,
    }


async def list_models(request: Request) -> JSONResponse:
    """List the model under each of its names."""
    state = state_of(request)
    return JSONResponse({"object": "list", "data": [_card(state, name) for name in state.front.names]})


async def get_model(request: Request) -> JSONResponse:
    """Describe one model."""
    state, name = state_of(request), request.path_params["name"]
    state.front.check_model(name)
    return JSONResponse(_card(state, name))


routes = [Route("/v1/models", list_models), Route("/v1/models/{name:path}", get_model)]
