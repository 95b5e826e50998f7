"""Predictor: files to predictions, on all cores, whatever runs the model."""

import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import to_geometry
from weldnet.data.decode.pictures import MAX_PIXELS, UnreadableImage
from weldnet.evaluation.verdicts import NOT_CALIBRATED, REFER, give_verdicts
from weldnet.hardware import available_cores
from weldnet.inference.engines import Engine
from weldnet.inference.exported import CARD, load_export
from weldnet.inference.finished_runs import find_checkpoint
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction
from weldnet.inference.settings import EngineSettings

log = logging.getLogger(__name__)

MAX_BATCH = 32
MAX_BATCH_PIXELS = 2**22
"""Of the network's input, in one batch."""


class Decoded(NamedTuple):
    """A file's content as the network's input, or why there is none."""

    sha256: str | None
    image: NDArray[np.uint8] | None
    error: str | None
    damaged: bool = False


class Predictor(ExitStack):
    """Predicts files with one engine on several threads. Close it, or use it as a context manager.

    Each thread takes a batch of files all the way from disk to verdict, on one core: nothing waits for anything else,
    and no more than twice as many batches as threads are in memory. Meanwhile numpy computes on one core everywhere.

    The engine is what scores, or `ckpt_path` for `load_engine`; `num_threads` None is one a core.
    """

    def __init__(self, engine: Engine | str, num_threads: int | None = None) -> None:
        super().__init__()
        self.engine = load_engine(engine) if isinstance(engine, str) else engine
        self.num_threads, geometry = num_threads or available_cores(), self.facts.geometry
        if not self.facts.calibrated:
            log.warning(NOT_CALIBRATED)
        self.batch_size = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (geometry.height * geometry.width)))
        # One core each: threads of numpy's own would fight over the cores.
        self.enter_context(threadpool_limits(1, "blas"))
        self.pool = ThreadPoolExecutor(self.num_threads, "weldnet", self.engine.enter_thread)
        # What the threads have begun they finish.
        self.callback(self.pool.shutdown, cancel_futures=True)

    @property
    def facts(self) -> ModelFacts:
        return self.engine.facts

    def predict_files(self, paths: Sequence[str]) -> Iterator[Prediction]:
        """Predicts files, in their order, as they are ready; for one that cannot be read with an error."""
        # So that a few files keep all threads busy, too.
        size = max(1, min(self.batch_size, -(-len(paths) // self.num_threads)))
        batches = (paths[start : start + size] for start in range(0, len(paths), size))
        waiting: deque[Future[list[Prediction]]] = deque()
        for batch in batches:
            waiting.append(self.pool.submit(self.predict_contents, batch, batch))
            if len(waiting) >= 2 * self.num_threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def predict_contents(
        self, names: Sequence[str], sources: Sequence[bytes | str], max_pixels: int = MAX_PIXELS
    ) -> list[Prediction]:
        """Predicts N contents, or files by their paths, in the calling thread; `names` (N) stand as `path`.

        An image whose header claims more than `max_pixels` is not decoded.
        """
        files = [self.decode(source, max_pixels) for source in sources]
        images = [file.image for file in files if file.image is not None]
        verdicts = iter(self._give_verdicts(np.stack(images)) if images else ())
        digest, time = self.facts.digest, datetime.now(UTC).isoformat(timespec="milliseconds")
        predictions = []
        for name, file in zip(names, files, strict=True):
            fields: dict[str, Any] = {"path": name, "sha256": file.sha256, "error": file.error}
            if file.image is not None:
                fields |= next(verdicts) | {"damaged": file.damaged}
            if file.damaged:
                # Whatever the score: the defect can lie where the picture is lost.
                fields["verdict"] = REFER
            predictions.append(Prediction(**fields, model_digest=digest, time=time))
        return predictions

    def decode(self, source: bytes | str, max_pixels: int = MAX_PIXELS) -> Decoded:
        """A file's content, or the file at a path, as the network's input."""
        digest = None
        try:
            content = read_content(source) if isinstance(source, str) else source
            digest = hashlib.sha256(content).hexdigest()
            image, picture = to_geometry(content, self.facts.geometry, even_damaged=True, max_pixels=max_pixels)
        except UnreadableImage as error:
            return Decoded(digest, None, str(error))
        return Decoded(digest, image, None, damaged=picture.damage is not None)

    def _give_verdicts(self, images: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
        """What stands in the prediction of each of B images."""
        facts = self.facts
        probabilities, distances = self.engine.score(images)
        _, unlike, verdicts = give_verdicts(probabilities, distances, facts.classes, facts.point)
        for row, is_unlike, verdict in zip(probabilities, unlike.tolist(), verdicts.tolist(), strict=True):
            yield {
                "predicted": facts.classes[int(row.argmax())],
                "verdict": verdict,
                "unlike_training": is_unlike if facts.calibrated else None,
                "probabilities": dict(zip(facts.classes, row.tolist(), strict=True)),
            }


def find_model(ckpt_path: str) -> Path:
    """The export folder, or the file of a checkpoint, that `ckpt_path` names, or an InputError."""
    folder = Path(ckpt_path).expanduser().absolute()
    if (folder / CARD).exists():
        return folder
    return find_checkpoint(ckpt_path)


def name_run(model: Path) -> str:
    """The name of the run, or of the export's folder, that `find_model` gave."""
    return model.parent.parent.name if model.parent.name == "checkpoints" else model.name


def load_engine(
    ckpt_path: str, *, device: str = EngineSettings.device, precision: str = EngineSettings.precision
) -> Engine:
    """The engine of a checkpoint, a run folder, `best`, `last`, or an export folder, or an InputError.

    `device` and `precision` are as `TorchEngine` takes them; an export runs on the CPU.
    """
    model = find_model(ckpt_path)
    if model.is_dir():
        return load_export(model, device=device, precision=precision)
    from weldnet.inference.checkpoint import load_checkpoint
    from weldnet.inference.torch_engine import TorchEngine

    return TorchEngine(load_checkpoint(model), device, precision)
