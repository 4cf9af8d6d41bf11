"""Routes about the model, whatever runs it."""

from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse

from sendnn_pipeline.server.api_route import ApiRoute
from sendnn_pipeline.server.state import ServerState, state_of


class Card(TypedDict):
    """What is served under a name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    max_model_len: int


class Cards(TypedDict):
    """The answer of /v1/models."""

    object: Literal["list"]
    data: list[Card]


def _card(state: ServerState, name: str) -> Card:
    run = state.front.run
    return {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": "sendnn_pipeline",
        "root": run.config.model.path,
        "max_model_len": run.plan.max_model_len,
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


routes = [
    ApiRoute("/v1/models", list_models, answer=Cards),
    ApiRoute("/v1/models/{name:path}", get_model, answer=Card),
]
