"""Routes about the server: version, info, metrics."""

from typing import Any, TypedDict

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sendnn_pipeline import __version__
from sendnn_pipeline.frontend.tokenizer import THREADS
from sendnn_pipeline.messages import MeasuredStep
from sendnn_pipeline.server.api_route import ApiRoute
from sendnn_pipeline.server.health import why_not_ready
from sendnn_pipeline.server.state import ServerState, state_of


class Version(TypedDict):
    """The answer of /version."""

    version: str


async def version(_request: Request) -> JSONResponse:
    """Return the version."""
    return JSONResponse({"version": __version__})


async def info(request: Request) -> JSONResponse:
    """Return resolved limits, Programs with measured costs, and versions."""
    state = state_of(request)
    run, ready = state.front.run, state.front.client.ready
    config, facts, plan = run.config, run.model, run.plan
    of_engine = dict(plan.info)
    model = {"id": run.served_name, "architecture": facts.architecture, "dtype": config.model.dtype}
    return JSONResponse(
        {
            "version": __version__,
            "model": model | of_engine.pop("model", {}),
            "limits": {
                "max_input_tokens": plan.max_input_tokens,
                "max_model_len": config.model.max_model_len,
                "max_queue": config.serve.max_queue,
                "max_body_bytes": config.serve.max_body_bytes,
                "request_timeout_seconds": config.serve.request_timeout_seconds,
            },
            "backend": config.backend.name,
            "programs": _programs(state, ready.steps if ready else []),
            "steps_measured_now": ready.measured if ready else None,
            "engine": (ready.engine | {"resident_bytes": ready.resident_bytes}) if ready else None,
            "startup": state.startup.progress(),
            "not_ready": why_not_ready(state.front.client),
            "recent_errors": state.recent.list(),
            **state.about,
            # The names that text-embeddings-inference's clients look for.
            "model_id": config.model.path,
            "model_sha": config.model.revision,
            "model_dtype": config.model.dtype,
            "max_concurrent_requests": config.serve.max_queue,
            "max_input_length": plan.max_input_tokens,
            "tokenization_workers": THREADS,
            **of_engine,
        }
    )


def _programs(state: ServerState, steps: list[MeasuredStep]) -> list[dict[str, Any]]:
    seconds, compiled = state.startup.programs.get("compile", {}), state.startup.compiled
    return [
        {
            "name": program.name,
            "compile_seconds": seconds.get(program.name),
            "source": "compiled" if program.name in compiled else "artifact" if program.name in seconds else None,
            "steps": [
                {**step.sizes, "ms": step.ms, "tokens_per_second": step.num_tokens / step.ms * 1000}
                for step in steps
                if step.program == program.name
            ],
        }
        for program in state.front.run.plan.programs
    ]


async def metrics(request: Request) -> Response:
    """Return Prometheus text."""
    return Response(await state_of(request).metrics.write(), headers={"Content-Type": CONTENT_TYPE_LATEST})


routes = [
    ApiRoute("/version", version, answer=Version),
    ApiRoute("/info", info, answer=dict[str, Any]),
    ApiRoute("/metrics", metrics, answer="text/plain"),
]
