"""A model behind HTTP: verdicts, heatmaps, and one page to see both on."""

from collections.abc import Collection

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image
from starlette.exceptions import HTTPException

import weldnet
from weldnet.inference.predictor import Predictor
from weldnet.serve.guard import Guard
from weldnet.serve.limits import Limits, Refusal
from weldnet.serve.pages import add_pages
from weldnet.serve.records import DecisionRecords
from weldnet.serve.routes import add_routes
from weldnet.serve.service import Service


def create_app(
    predictor: Predictor,
    records: DecisionRecords,
    limits: Limits,
    *,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """An application that is ready to answer: its model has judged an image already.

    Sets Pillow's limit of pixels for the whole process.

    Args:
        predictor: judges; stays the caller's to close.
        records: stay the caller's to close.
        limits: of requests.
        api_key, hosts: see `Guard`.

    Returns:
        Its `state.service` is the `Service`.

    Raises:
        InputError: the model's outputs are not finite.
    """
    Image.MAX_IMAGE_PIXELS = int(limits.max_megapixels * 1e6)
    service = Service(predictor, limits, records)
    service.warm_up()
    # FastAPI's own page of documentation loads scripts from elsewhere, and needs a weaker content policy.
    app = FastAPI(
        title="weldnet",
        version=weldnet.__version__,
        description="Verdicts on photographs and radiographs of welds: accept, reject, or refer to an inspector.",
        # Wherever a proxy shows it.
        servers=[{"url": "."}],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    add_routes(app, service, service.limits.max_images, asks_for_key=api_key is not None)
    add_pages(app)
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    routes = {str(getattr(route, "path", "")) for route in app.routes}
    app.add_middleware(Guard, routes=routes, metrics=service.metrics, api_key=api_key, hosts=hosts)
    return app


async def _answer_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.to_response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = f"{request.method} {request.url.path[:200]}: {error.detail}; /docs shows what there is"
    return JSONResponse({"error": words}, error.status_code, error.headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    words = f"the server failed; its log says why, at request {request.state.request_id}"
    return JSONResponse({"error": words}, 500)
