"""A model behind HTTP: verdicts, where the network looked, and one page to see both on."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

import weldnet
from weldnet.deploy.limits import Limits, Refusal
from weldnet.deploy.records import DecisionRecords
from weldnet.deploy.server_explaining import EVIDENCE, Explainer
from weldnet.deploy.server_guard import Guard
from weldnet.deploy.server_metrics import Metrics
from weldnet.deploy.server_page import add_page
from weldnet.deploy.server_queue import Batcher, WorkQueue
from weldnet.deploy.server_uploads import FIELD, Upload, Uploads
from weldnet.engines import TorchEngine
from weldnet.predictor import Prediction, Predictor


@dataclass(frozen=True)
class Result:
    """What was said of one file; `error` says why there is no verdict."""

    file: str
    sha256: str | None
    predicted: str | None
    verdict: str | None
    unlike_training: bool | None
    probabilities: dict[str, float]
    error: str | None


@dataclass(frozen=True)
class Answer:
    """Results in the order of the files. `error` is null if any file could be read."""

    results: list[Result]
    model_digest: str
    request_id: str
    error: str | None = None


@dataclass(frozen=True)
class Problem:
    """What was wrong, and what is allowed."""

    error: str


class Service:
    """The answers to each route.

    Args:
        predictor: judges, in its pool of threads of one core each; what waits when a thread is free, is one batch.
        limits: of requests.
        records: where each decision is written before it is told.
    """

    def __init__(self, predictor: Predictor, limits: Limits, records: DecisionRecords) -> None:
        self.predictor, self.limits, self.records = predictor, limits, records
        self.uploads, self.queue = Uploads(limits), WorkQueue(limits)
        self.batcher = Batcher(predictor.pool, predictor.num_threads, self._judge)
        self.metrics = Metrics(self.queue)
        engine = predictor.engine
        self.explainer = Explainer(predictor, engine) if isinstance(engine, TorchEngine) else None
        self.is_stopping = False

    def warm_up(self) -> None:
        """Judges, and explains, an image of its own in every thread: the first one pays for what is loaded late.

        Raises:
            InputError: the model's outputs are not finite.
        """
        geometry = self.predictor.facts.geometry
        black = np.zeros((1, 3, geometry.height, geometry.width), np.uint8)
        list(self.predictor.pool.map(self.predictor.engine.score, [black] * self.predictor.num_threads))
        if self.explainer:
            self.explainer.pool.submit(self.explainer.warm_up).result()

    async def predict(self, request: Request) -> JSONResponse:
        """Judges photographs; those that cannot be read get an `error`, and the others their verdict all the same."""
        # Told before the photographs are read, it costs next to nothing.
        self.queue.check_room()
        async with self.uploads.receive(request, self.limits.max_images) as files:
            request.state.images = len(files)
            predictions = await self.queue.run(self.batcher.submit, files)
        request_id: str = request.state.request_id
        try:
            # Not in the loop's thread: a disk may let one wait.
            writing = asyncio.to_thread(self.records.append, request_id, predictions)
            await asyncio.wait_for(writing, self.limits.request_timeout_s)
        except OSError as error:
            why = "the disk does not answer" if isinstance(error, TimeoutError) else error.strerror or error
            words = f"the decision cannot be recorded ({why}), and no verdict is given without"
            raise Refusal(503, words) from error
        self.metrics.count_predictions(predictions)
        readable = any(prediction.error is None for prediction in predictions)
        answer = Answer(
            [_to_result(prediction) for prediction in predictions],
            self.predictor.facts.digest,
            request_id,
            None if readable else "none of the files could be read; each says why",
        )
        return JSONResponse(asdict(answer), 200 if readable else 422)

    def _judge(self, uploads: Sequence[Upload]) -> list[Prediction]:
        return self.predictor.predict_contents([each.name for each in uploads], [each.content for each in uploads])

    async def explain(self, request: Request) -> Response:
        """The photograph beside itself under the evidence for the class that it is called."""
        if self.explainer is None:
            raise Refusal(501, "an export has no gradients to explain with; serve the checkpoint that it came from")
        self.queue.check_room()
        async with self.uploads.receive(request, 1) as files:
            request.state.images = 1
            (drawing,) = await self.queue.run(self.explainer.submit, files)
        return Response(drawing.png, headers={EVIDENCE: str(int(drawing.shows_evidence))}, media_type="image/png")

    async def health(self, request: Request) -> JSONResponse:
        """The process is alive."""
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> JSONResponse:
        """The model has judged an image of its own, and the server is not stopping."""
        if self.is_stopping:
            raise Refusal(503, "the server is stopping")
        return JSONResponse({"status": "ready"})

    async def model(self, request: Request) -> JSONResponse:
        """Which model this is, when it accepts and rejects, and what it takes."""
        facts = self.predictor.facts.to_dict()
        return JSONResponse(facts | {"limits": asdict(self.limits), "explains": self.explainer is not None})

    async def count(self, request: Request) -> Response:
        """Counters in Prometheus's text format."""
        return Response(self.metrics.to_text(), media_type=CONTENT_TYPE_LATEST)


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
    # FastAPI's own page of documentation loads scripts from elsewhere.
    app = FastAPI(title="weldnet", version=weldnet.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    _add_routes(app, service)
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    routes = {str(getattr(route, "path", "")) for route in app.routes}
    app.add_middleware(Guard, routes=routes, metrics=service.metrics, api_key=api_key, hosts=hosts)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 401, 403, 408, 411, 413, 415, 429, 503)
    }
    judged: dict[int | str, dict[str, Any]] = {status: {"model": Answer} for status in (200, 422)}
    found = {EVIDENCE: {"description": "0 where nothing speaks for the class", "schema": {"enum": ["0", "1"]}}}
    drawn: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}}, "headers": found},
        501: {"model": Problem},
    }
    unreadable: dict[int | str, dict[str, Any]] = {422: {"model": Problem}}
    many, one = _describe_body(service.limits.max_images), _describe_body(1)
    app.add_api_route("/predict", service.predict, methods=["POST"], responses=judged | problems, openapi_extra=many)
    app.add_api_route(
        "/explain", service.explain, methods=["POST"], responses=drawn | unreadable | problems, openapi_extra=one
    )
    app.add_api_route("/health", service.health)
    app.add_api_route("/ready", service.ready, responses={503: {"model": Problem}})
    # What watches a server often asks so; beside GET, they would be described twice.
    for path, answer in (("/health", service.health), ("/ready", service.ready)):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/model", service.model)
    app.add_api_route("/metrics", service.count)
    add_page(app)


def _describe_body(max_files: int) -> dict[str, Any]:
    files = {"type": "array", "maxItems": max_files, "items": {"type": "string", "format": "binary"}}
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: files}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _to_result(said: Prediction) -> Result:
    return Result(
        said.path, said.sha256, said.predicted, said.verdict, said.unlike_training, said.probabilities, said.error
    )


async def _answer_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.to_response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = f"{request.method} {request.url.path[:200]}: {error.detail}; /openapi.json lists what there is"
    return JSONResponse({"error": words}, error.status_code, error.headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    words = f"the server failed; its log says why, at request {request.state.request_id}"
    return JSONResponse({"error": words}, 500)
