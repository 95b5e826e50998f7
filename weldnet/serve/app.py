"""A model behind HTTP: verdicts, heatmaps, and one page to see both on."""

import importlib.resources
from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from weldnet.inference.predictor import Predictor
from weldnet.serve.answers import EVIDENCE, Answer, Problem, Review
from weldnet.serve.guard import KEY, Guard
from weldnet.serve.kept_images import KeptImages
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords
from weldnet.serve.service import Service
from weldnet.serve.uploads import FIELD, MAX_REFERENCE, REFERENCE

_OWN, _SWAGGER = "weldnet.serve", "fastapi_offline"

PAGES = {
    "/": (_OWN, "page.html", "text/html"),
    "/page.css": (_OWN, "page.css", "text/css"),
    "/page.js": (_OWN, "page.js", "text/javascript"),
    **{
        f"/page_{name}.js": (_OWN, f"page_{name}.js", "text/javascript")
        for name in ("camera", "elements", "photograph", "requests", "reviews")
    },
    "/docs": (_OWN, "docs.html", "text/html"),
    "/docs.js": (_OWN, "docs.js", "text/javascript"),
    "/swagger-ui.css": (_SWAGGER, "static/swagger-ui.css", "text/css"),
    "/swagger-ui-bundle.js": (_SWAGGER, "static/swagger-ui-bundle.js", "text/javascript"),
}
"""Route to package, file and media type: pages that load nothing from any other server."""

OPEN = {*PAGES, "/health", "/ready", "/openapi.json"}
"""Routes that show nothing of the model, and need no key."""


def create_app(
    predictor: Predictor,
    records: DecisionRecords,
    limits: Limits,
    *,
    run: str = "",
    images: KeptImages | None = None,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """An application that is ready to answer: its model has predicted an image already.

    The caller closes predictor, records and images. Its `state.service` is the `Service`, which takes `run` and
    `images`; `api_key` and `hosts` are the `Guard`'s.
    """
    service = Service(predictor, limits, records, run, images)
    service.warm_up()
    app = _make_app()
    app.state.service = service
    _add_routes(app, service, [Security(APIKeyHeader(name=KEY, auto_error=False))] if api_key else [])
    for path, page in PAGES.items():
        _add_page(app, path, *page)
    routes = {str(getattr(route, "path", "")) for route in app.routes}
    app.add_middleware(
        Guard,
        routes=routes,
        without_key=OPEN,
        registry=service.registry,
        max_body=limits.max_body,
        api_key=api_key,
        hosts=hosts,
    )
    return app


def _make_app() -> FastAPI:
    """An application without routes, as `/openapi.json` describes it."""
    # FastAPI's own page of documentation loads scripts from elsewhere, and needs a weaker content policy.
    return FastAPI(
        title="weldnet",
        version=version("weldnet"),
        description="Verdicts on photographs and radiographs of welds: accept, reject, or refer to an inspector.",
        # Wherever a proxy shows it.
        servers=[{"url": "."}],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={HTTPException: _answer_http_error},
    )


def _add_routes(app: FastAPI, service: Service, key: list[Any]) -> None:
    """Adds the service's routes; `key` describes the key that the guard asks for."""
    problem: dict[str, Any] = {"model": Problem}
    problems: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 403, 408, 411, 413, 415, 429, 503), problem)
    found = {EVIDENCE: {"description": "0 where there is no evidence for the class", "schema": {"enum": ["0", "1"]}}}
    app.post(
        "/predict",
        summary="Predict photographs",
        responses={422: {"model": Answer}, **problems},
        openapi_extra=_describe_body(service.limits.max_images),
        dependencies=key,
    )(service.predict)
    app.post(
        "/explain",
        summary="Draw the heatmap of a photograph",
        responses={200: {"content": {"image/png": {}}, "headers": found}, 422: problem, 501: problem, **problems},
        response_class=Response,
        openapi_extra=_describe_body(1),
        # An export answers that it has no heatmaps; a client made from the description need not know.
        include_in_schema=service.explainer is not None,
        dependencies=key,
    )(service.explain)
    review = {"required": True, "content": {"application/json": {"schema": Review.model_json_schema()}}}
    app.post(
        "/reviews",
        summary="Agree with a decision, or overrule it",
        responses={422: problem, **problems},
        openapi_extra={"requestBody": review},
        dependencies=key,
    )(service.review)
    refused: dict[int | str, dict[str, Any]] = {400: problem}
    app.get("/health", summary="Is it alive?", responses=refused)(service.health)
    app.get("/ready", summary="Is it ready for work?", responses={**refused, 503: problem})(service.ready)
    # Monitors often ask so; beside GET, these would be described twice.
    app.head("/health", include_in_schema=False)(service.health)
    app.head("/ready", include_in_schema=False)(service.ready)
    refused = {400: problem, 401: problem}
    app.get("/model", summary="Which model is this?", responses=refused, dependencies=key)(service.model)
    app.get(
        "/metrics",
        summary="Counters for Prometheus",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refused},
        response_class=Response,
        dependencies=key,
    )(service.count)


def _describe_body(max_files: int) -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {FIELD: {"type": "array", "minItems": 1, "maxItems": max_files, "items": file}}
    if max_files > 1:
        about = "names the part that the photographs show; recorded with the decisions"
        properties[REFERENCE] = {"type": "string", "maxLength": MAX_REFERENCE, "description": about}
    schema = {"type": "object", "required": [FIELD], "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _add_page(app: FastAPI, path: str, package: str, name: str, kind: str) -> None:
    content = importlib.resources.files(package).joinpath(name).read_bytes()

    @app.api_route(path, methods=["GET", "HEAD", "OPTIONS"], include_in_schema=False)
    async def answer() -> Response:
        return Response(content, media_type=kind)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    reason = f"{request.method} {request.url.path[:200]}: {error.detail}; /docs lists the routes"
    return JSONResponse({"error": reason}, error.status_code, error.headers)
