"""Where the network looked, for one photograph at a time, beside the threads that judge."""

import copy
import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from weldnet.explain.attribution import draw_overlay, explain
from weldnet.inference.engines import TorchEngine
from weldnet.inference.predictor import Predictor
from weldnet.report.writer import LAYER, METHOD
from weldnet.serve.limits import Refusal
from weldnet.serve.uploads import Upload

EVIDENCE = "X-Evidence"
"""The header that says whether a drawing shows any."""


class Drawing(NamedTuple):
    """A PNG, and whether it shows any evidence."""

    png: bytes
    shows_evidence: bool


class Explainer:
    """Draws evidence in a thread of its own, with a network of its own: drawing switches the network's modes.

    Args:
        predictor: decodes and says the class.
        engine: what the predictor scores with.
    """

    def __init__(self, predictor: Predictor, engine: TorchEngine) -> None:
        self.predictor, self.engine, self.network = predictor, engine, copy.deepcopy(engine.network)
        self.pool = ThreadPoolExecutor(1, "weldnet-explain", torch.set_num_threads, (1,))

    def warm_up(self) -> None:
        """Draws once: the first time pays for what is loaded late."""
        geometry = self.predictor.facts.geometry
        self._draw(np.zeros((3, geometry.height, geometry.width), np.uint8))

    def submit(self, upload: Upload) -> Future[Drawing]:
        """What `draw` gives, when it is there."""
        return self.pool.submit(self.draw, upload)

    def draw(self, upload: Upload) -> Drawing:
        """The photograph beside itself under the evidence for the class that it is called.

        Raises:
            Refusal: the file cannot be read.
        """
        decoded = self.predictor.decode(upload.content)
        if decoded.image is None:
            raise Refusal(422, f"the file cannot be read: {decoded.error}")
        return self._draw(decoded.image)

    def _draw(self, image: NDArray[np.uint8]) -> Drawing:
        target = torch.from_numpy(self.engine.score(image[None]).probabilities.argmax(axis=1)).to(self.engine.device)
        pixels = torch.from_numpy(image[None]).to(self.engine.device)
        # The engine's lock: drawing sets torch's precision for the whole process, too.
        with self.engine.alone:
            maps, _ = explain(self.network, self.network.trunk.get_submodule(LAYER), pixels, target, METHOD)
        file = io.BytesIO()
        Image.fromarray(draw_overlay(image, maps[0])).save(file, "PNG")
        return Drawing(file.getvalue(), bool(maps.any()))
