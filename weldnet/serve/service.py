"""The answers to each route."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from weldnet.inference.engines import TorchEngine
from weldnet.inference.predictor import Prediction, Predictor
from weldnet.serve.answers import Answer, Result
from weldnet.serve.counters import Metrics
from weldnet.serve.heatmaps import EVIDENCE, Explainer
from weldnet.serve.limits import Limits, Refusal
from weldnet.serve.records import DecisionRecords
from weldnet.serve.request_queue import Batcher, WorkQueue
from weldnet.serve.uploads import Upload, Uploads


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


def _to_result(said: Prediction) -> Result:
    return Result(
        file=said.path,
        sha256=said.sha256,
        predicted=said.predicted,
        verdict=said.verdict,
        unlike_training=said.unlike_training,
        damaged=said.damaged,
        probabilities=said.probabilities,
        error=said.error,
    )
