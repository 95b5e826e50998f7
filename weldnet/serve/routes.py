"""The routes, and what they take, as `/openapi.json` and `/docs` tell it."""

from typing import Any

from fastapi import FastAPI, Response, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader

from weldnet.serve.answers import Answer, Problem
from weldnet.serve.guard import KEY
from weldnet.serve.heatmaps import EVIDENCE
from weldnet.serve.service import Service
from weldnet.serve.uploads import FIELD


def add_routes(app: FastAPI, service: Service, max_images: int, *, asks_for_key: bool) -> None:
    """Adds the routes of a service, described.

    Args:
        max_images: in one request to judge.
        asks_for_key: say so; the guard looks at it.
    """
    key = [Security(APIKeyHeader(name=KEY, auto_error=False))] if asks_for_key else []
    problem: dict[str, Any] = {"model": Problem}
    problems: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 408, 411, 413, 415, 429, 503), problem)
    judged: dict[int | str, dict[str, Any]] = {status: {"model": Answer} for status in (200, 422)}
    found = {EVIDENCE: {"description": "0 where nothing speaks for the class", "schema": {"enum": ["0", "1"]}}}
    drawn: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}}, "headers": found},
        422: problem,
        501: problem,
    }
    app.add_api_route(
        "/predict",
        service.predict,
        methods=["POST"],
        summary="Judge photographs",
        responses=judged | problems,
        openapi_extra=_describe_body(max_images),
        dependencies=key,
    )
    app.add_api_route(
        "/explain",
        service.explain,
        methods=["POST"],
        summary="Show where the network looked",
        responses=drawn | problems,
        response_class=Response,
        openapi_extra=_describe_body(1),
        dependencies=key,
    )
    for path, answer, summary in (
        ("/health", service.health, "Is it alive?"),
        ("/ready", service.ready, "Is it ready for work?"),
    ):
        app.add_api_route(path, answer, summary=summary, responses={503: problem} if path == "/ready" else {})
        # What watches a server often asks so; beside GET, they would be described twice.
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/model", service.model, summary="Which model is this?", dependencies=key)
    app.add_api_route(
        "/metrics",
        service.count,
        summary="Counters for Prometheus",
        response_class=PlainTextResponse,
        dependencies=key,
    )


def _describe_body(max_files: int) -> dict[str, Any]:
    files = {"type": "array", "maxItems": max_files, "items": {"type": "string", "format": "binary"}}
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: files}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
