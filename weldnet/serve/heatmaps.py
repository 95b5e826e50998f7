"""The heatmap of one photograph at a time, drawn beside the threads that predict."""

import copy
import io
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from fastapi import Response
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.images import show_photograph
from weldnet.explain.attribution import draw_overlay, explain_images
from weldnet.inference.predictor import Predictor
from weldnet.inference.torch_engine import TorchEngine
from weldnet.serve.answers import EVIDENCE, Refusal
from weldnet.serve.limits import Limits
from weldnet.serve.uploads import Upload


class Explainer:
    """Draws heatmaps in a thread of its own, with a network of its own: drawing switches the network's modes."""

    def __init__(self, predictor: Predictor, engine: TorchEngine, limits: Limits) -> None:
        self.predictor, self.engine, self.limits = predictor, engine, limits
        self.network = copy.deepcopy(engine.network)
        self.pool = ThreadPoolExecutor(1, "weldnet-explain", torch.set_num_threads, (1,))

    def submit(self, upload: Upload) -> Future[Response]:
        """A PNG: the photograph beside itself under the heatmap for its predicted class, or a Refusal."""
        return self.pool.submit(self._explain, upload)

    def _explain(self, upload: Upload) -> Response:
        decoded = self.predictor.decode(upload.content, self.limits.max_pixels)
        if decoded.image is None:
            raise Refusal(422, f"the file cannot be read: {decoded.error}")
        geometry, most = self.predictor.facts.geometry, self.limits.max_pixels
        return self.draw(decoded.image, show_photograph(upload.content, decoded.image, geometry, most))

    def draw(self, image: NDArray[np.uint8], shown: NDArray[np.uint8]) -> Response:
        """Draws what the network finds in an image of its geometry over what is shown of it, in the calling thread."""
        target = torch.from_numpy(self.engine.score(image[None]).probabilities.argmax(axis=1))
        # The engine's lock: drawing sets torch's precision for the whole process, too.
        with self.engine.alone:
            maps, _ = explain_images(self.network, torch.from_numpy(image[None]), target)
        file = io.BytesIO()
        Image.fromarray(draw_overlay(shown, maps[0])).save(file, "PNG")
        return Response(file.getvalue(), headers={EVIDENCE: str(int(maps.any()))}, media_type="image/png")
