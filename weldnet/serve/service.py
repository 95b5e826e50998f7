"""The answers to each route."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    ProcessCollector,
    generate_latest,
)
from pydantic import ValidationError

from weldnet.evaluation.verdicts import DECIDES_NOTHING, VERDICTS
from weldnet.inference.prediction import Prediction
from weldnet.inference.predictor import Predictor
from weldnet.serve.answers import Answer, Refusal, Review, ServedModel, Status
from weldnet.serve.kept_images import KeptImages
from weldnet.serve.limits import Limits
from weldnet.serve.records import DecisionRecords
from weldnet.serve.request_queue import Batcher, WorkQueue
from weldnet.serve.uploads import Upload, Uploads, await_body

if TYPE_CHECKING:
    from weldnet.serve.heatmaps import Explainer

log = logging.getLogger(__name__)

UNPROVEN = "This model does not record whether it is proven fit to decide alone: see its test report."

MAX_REVIEW = 2**14
"""Bytes of a review."""


class Service:
    """The answers to each route of a model from a run or an export, and what they count, in a `registry` of their own.

    `images` keeps the photographs of reviewed decisions; None keeps none.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits, records: DecisionRecords, run: str, images: KeptImages | None
    ) -> None:
        self.predictor, self.limits, self.records, self.run, self.images = predictor, limits, records, run, images
        self.uploads, self.queue = Uploads(limits), WorkQueue(limits)
        self.batcher = Batcher(predictor.pool, predictor.num_threads, self._predict)
        self.explainer = _make_explainer(predictor, limits)
        self.is_stopping = False
        self._make_counters()

    def _make_counters(self) -> None:
        """Each series begins with 0 at the start, so that a rate sees its first one."""
        self.registry = registry = CollectorRegistry()
        facts, about = self.predictor.facts, "Images received, judged or unreadable."
        self.num_images = Counter("weldnet_images", about, ["outcome"], registry=registry)
        self.num_verdicts = Counter("weldnet_verdicts", "Verdicts given.", ["verdict", "predicted"], registry=registry)
        about = "Images unlike anything in training, which are referred."
        self.num_unlike = Counter("weldnet_unlike_training", about, registry=registry)
        for outcome in ("judged", "unreadable"):
            self.num_images.labels(outcome)
        for verdict in VERDICTS:
            for name in facts.classes:
                self.num_verdicts.labels(verdict, name)
        model = Info("weldnet_model", "The model that gives the verdicts.", registry=registry)
        model.info({"digest": facts.digest, "run": self.run, "version": version("weldnet")})
        ProcessCollector(registry=registry)
        length = Gauge("weldnet_queue_length", "Requests that are predicted or wait for it.", registry=registry)
        length.set_function(lambda: self.queue.length)

    def warm_up(self) -> None:
        """Predicts, and explains, an image of its own in every thread: the first one pays for what is loaded late."""
        geometry, pool = self.predictor.facts.geometry, self.predictor.pool
        black = np.zeros((1, 3, geometry.height, geometry.width), np.uint8)
        list(pool.map(self.predictor.engine.score, [black] * self.predictor.num_threads))
        if self.explainer:
            self.explainer.pool.submit(self.explainer.draw, black[0], black[0]).result()

    async def predict(self, request: Request, response: Response) -> Answer:
        """Predicts photographs; those that cannot be read get an `error`, and the others their verdict all the same."""
        # Before the photographs are read, a refusal costs next to nothing.
        self.queue.check_room()
        async with self.uploads.receive(request, self.limits.max_images) as form:
            request.state.images = len(form.files)
            predictions = await self.queue.run(self.batcher.submit, form.files)
            request_id: str = request.state.request_id
            if self.images:
                await self._keep(self.images.hold, request_id, form.files, predictions)
        if error := await self._write(self.records.append, request_id, predictions, form.reference):
            reason = f"the decision cannot be recorded ({error.strerror or error}), and no verdict is given without"
            raise Refusal(503, reason) from error
        for each in predictions:
            self.num_images.labels("unreadable" if each.error else "judged").inc()
            if not each.error:
                self.num_verdicts.labels(each.verdict, each.predicted).inc()
                self.num_unlike.inc(bool(each.unlike_training))
        digest = self.predictor.facts.digest
        answer = Answer(results=predictions, model_digest=digest, request_id=request_id, reference=form.reference)
        if all(each.error for each in predictions):
            response.status_code, answer.error = 422, "none of the files could be read; each has its error"
        return answer

    async def _write(self, write: Callable[..., None], *arguments: Any) -> OSError | None:
        """Writes in a thread, since a disk may let one wait; returns why it failed."""
        try:
            await asyncio.wait_for(asyncio.to_thread(write, *arguments), self.limits.request_timeout_s)
        except OSError as error:
            return OSError("the disk does not answer") if isinstance(error, TimeoutError) else error
        return None

    async def _keep(self, keep: Callable[..., None], *arguments: Any) -> None:
        """Holds or keeps photographs; no verdict and no review is refused for a disk that refuses them."""
        if error := await self._write(keep, *arguments):
            log.warning("a photograph is not kept (serve.keep_images): %s", error)

    async def review(self, request: Request) -> Status:
        """Records what a person thinks of a decision, beside it."""
        if int(request.headers["content-length"]) > MAX_REVIEW:
            raise Refusal(413, f"a review has at most {MAX_REVIEW} bytes")
        try:
            async with await_body(self.limits.request_timeout_s):
                review = Review.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Refusal(422, f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}"[:300]) from None
        classes = self.predictor.facts.classes
        if review.label is not None and review.label not in classes:
            raise Refusal(422, f"label: allowed are {', '.join(classes)}, or null")
        if not review.agree and review.label is None:
            raise Refusal(422, "label: whoever overrules a verdict names the class that the photograph shows")
        # First: whoever records a review again finds the photograph where it is.
        if self.images:
            await self._keep(self.images.keep, review.request_id, review.file)
        if failure := await self._write(self.records.append_review, review):
            reason = f"the review cannot be recorded ({failure.strerror or failure}); send it again"
            raise Refusal(503, reason) from failure
        return Status(status="recorded")

    def _predict(self, uploads: Sequence[Upload]) -> list[Prediction]:
        names, contents = zip(*uploads, strict=True)
        return self.predictor.predict_contents(names, contents, self.limits.max_pixels)

    async def explain(self, request: Request) -> Response:
        """The photograph beside itself under the heatmap for its predicted class."""
        if self.explainer is None:
            raise Refusal(501, "an export has no gradients to explain with; serve the checkpoint that it came from")
        self.queue.check_room()
        async with self.uploads.receive(request, 1) as form:
            if form.reference is not None:
                raise Refusal(400, "a heatmap is not recorded, so it takes no reference")
            request.state.images = 1
            (heatmap,) = await self.queue.run(self.explainer.submit, form.files)
        return heatmap

    async def health(self) -> Status:
        """The process is alive."""
        return Status(status="alive")

    async def ready(self) -> Status:
        """The model has predicted an image of its own, and the server is not stopping."""
        if self.is_stopping:
            raise Refusal(503, "the server is stopping")
        return Status(status="ready")

    async def model(self) -> ServedModel:
        """Which model this is, when it accepts and rejects, and the limits of requests."""
        point, explains = self.predictor.facts.point, self.explainer is not None
        headline = DECIDES_NOTHING if point.accept_above is point.reject_below is None else UNPROVEN
        about: dict[str, Any] = {"run": self.run, "headline": headline, "rule": point.describe()}
        return ServedModel(**dict(self.predictor.facts), **about, limits=self.limits, explains=explains)

    async def count(self) -> Response:
        """Counters in Prometheus's text format."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


def _make_explainer(predictor: Predictor, limits: Limits) -> "Explainer | None":
    if not predictor.engine.has_gradients:
        return None
    # An export is served without torch.
    from weldnet.inference.torch_engine import TorchEngine
    from weldnet.serve.heatmaps import Explainer

    assert isinstance(predictor.engine, TorchEngine)
    return Explainer(predictor, predictor.engine, limits)
