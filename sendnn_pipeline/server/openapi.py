"""The OpenAPI document of a server, made of the types that its routes are read and written by."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sendnn_pipeline import __version__
from sendnn_pipeline.frontend.errors import OpenAIError
from sendnn_pipeline.server.api_route import ApiRoute

REF = "#/components/schemas/{name}"
NULL = {"type": "null"}
KEY = "key"


def make_document(routes: Sequence[ApiRoute], *, root_path: str = "", open_paths: Sequence[str] | None = None) -> Any:
    """Return the document.

    Args:
        routes: what is in it.
        root_path: before every path.
        open_paths: those that need no API key; None where there is none.
    """
    bodies = [route.body for route in routes if route.body is not None]
    answers = [route.answer for route in routes if not isinstance(route.answer, str)]
    kinds = [*bodies, *answers, *(error for route in routes for error in _errors(route))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    _, of_bodies = msgspec.json.schema_components(bodies, ref_template=REF)
    for name in of_bodies:
        _allow_nulls(components[name])
    found = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        locked = open_paths is not None and route.path not in open_paths
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {}).update(
            {method.lower(): _operation(route, found, locked=locked) for method in route.asked_by}
        )
    security = {"securitySchemes": {KEY: {"type": "http", "scheme": "bearer"}}} if open_paths is not None else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sendnn_pipeline", "version": __version__},
        "servers": [{"url": f"/{root_path.strip('/')}"}],
        "paths": paths,
        "components": {"schemas": components, **security},
    }


def _errors(route: ApiRoute) -> list[type]:
    """Return the types of all errors of a route: its own, and those of what stands before it."""
    return list(dict.fromkeys([*route.errors, OpenAIError]))


def _allow_nulls(component: dict[str, Any]) -> None:
    """Say that null leaves a field unset, as ``decode_body`` has it."""
    required = component.get("required", ())
    for name, schema in component.get("properties", {}).items():
        if name not in required and NULL not in schema.get("anyOf", ()):
            default = {"default": schema.pop("default")} if "default" in schema else {}
            component["properties"][name] = {"anyOf": [schema, NULL], **default}


def _operation(route: ApiRoute, found: dict[str, Any], *, locked: bool) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content = {route.answer: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": found[repr(route.answer)]}}
    if route.streams:
        content["text/event-stream"] = {}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {
                "description": "What is wrong.",
                "content": {"application/json": {"schema": {"anyOf": [found[repr(kind)] for kind in _errors(route)]}}},
            },
        },
    }
    if route.body is not None:
        schema = {"application/json": {"schema": found[repr(route.body)]}}
        operation["requestBody"] = {"required": True, "content": schema}
    if route.param_convertors:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in route.param_convertors
        ]
    if locked:
        operation["security"] = [{KEY: []}]
    return operation
