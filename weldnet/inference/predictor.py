"""Predictor: files to predictions, on all cores, whatever runs the model."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import UnreadableImage, to_geometry
from weldnet.data.decode.pictures import MAX_PIXELS
from weldnet.evaluation.decision import REFER
from weldnet.evaluation.judge import give_verdicts
from weldnet.hardware import available_cores
from weldnet.inference.checkpoint import find_checkpoint, load_checkpoint
from weldnet.inference.engines import Engine, TorchEngine
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction
from weldnet.inference.settings import EngineSettings

MAX_BATCH = 32
MAX_BATCH_PIXELS = 2**22
"""Of the network's input, in one batch."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Decoded(NamedTuple):
    """A file's content as the network's input, or why there is none."""

    sha256: str | None
    image: NDArray[np.uint8] | None
    error: str | None
    damaged: bool = False


class Predictor:
    """Judges files with one engine on several threads. Close it, or use it as a context manager.

    While it is open, numpy computes on one core in the whole process.

    Each thread takes a batch of files all the way from disk to verdict, on one core: nothing waits for anything else,
    and no more than twice as many batches as threads are in memory.

    Args:
        engine: what scores.
        num_threads: None for one a core.
    """

    def __init__(self, engine: Engine, num_threads: int | None = None) -> None:
        self.engine, self.num_threads = engine, num_threads or available_cores()
        geometry = engine.facts.geometry
        self.batch_size = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (geometry.height * geometry.width)))
        # One core each: threads of torch's and of numpy's own would fight over the cores.
        self.pool = ThreadPoolExecutor(self.num_threads, "weldnet", torch.set_num_threads, (1,))
        self.blas = threadpool_limits(1, "blas")

    @property
    def facts(self) -> ModelFacts:
        return self.engine.facts

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads; what they have begun they finish."""
        self.pool.shutdown(cancel_futures=True)
        self.blas.restore_original_limits()

    def predict_files(self, paths: Sequence[str]) -> Iterator[Prediction]:
        """Judges files, in their order, as they are ready; a file that cannot be read gives a prediction that says so.

        Raises:
            InputError: the network's outputs are not finite.
        """
        # A handful of files is shared out, too.
        size = max(1, min(self.batch_size, -(-len(paths) // self.num_threads)))
        batches = (paths[start : start + size] for start in range(0, len(paths), size))
        for predictions in _in_order(self.pool, self._predict_batch, batches, 2 * self.num_threads):
            yield from predictions

    def predict_contents(
        self, names: Sequence[str], contents: Sequence[bytes], max_pixels: int = MAX_PIXELS
    ) -> list[Prediction]:
        """Judges what files hold, in the calling thread.

        Args:
            names: N, stand as `path`.
            contents: N.
            max_pixels: that an image's header may claim; beyond it the image is not decoded.
        """
        return self._judge(names, [self.decode(content, max_pixels) for content in contents])

    def _predict_batch(self, paths: Sequence[str]) -> list[Prediction]:
        return self._judge(paths, [self.decode_file(path) for path in paths])

    def decode_file(self, path: str) -> Decoded:
        """Reads a file to the network's input."""
        try:
            content = read_content(path)
        except UnreadableImage as error:
            return Decoded(None, None, str(error))
        return self.decode(content)

    def decode(self, content: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
        """A file's bytes as the network's input."""
        digest = hashlib.sha256(content).hexdigest()
        try:
            image, picture = to_geometry(content, self.facts.geometry, even_damaged=True, max_pixels=max_pixels)
        except UnreadableImage as error:
            return Decoded(digest, None, str(error))
        return Decoded(digest, image, None, damaged=picture.damage is not None)

    def _judge(self, names: Sequence[str], files: Sequence[Decoded]) -> list[Prediction]:
        images = [file.image for file in files if file.image is not None]
        verdicts = iter(self._give_verdicts(np.stack(images)) if images else ())
        always = {"model_digest": self.facts.digest, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        predictions = []
        for name, file in zip(names, files, strict=True):
            own = always | {"path": name, "sha256": file.sha256, "error": file.error}
            if file.image is not None:
                own |= next(verdicts) | {"damaged": file.damaged}
            if file.damaged:
                # Whatever the score: the defect can lie where the picture is lost.
                own["verdict"] = REFER
            predictions.append(Prediction(**own))
        return predictions

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


def load_engine(
    ckpt_path: str,
    *,
    runs: Path = Path("runs", "train"),
    device: str = EngineSettings.device,
    precision: str = EngineSettings.precision,
) -> Engine:
    """The engine of a checkpoint, a run folder, `best`, `last`, or an export folder.

    Args:
        runs: where `best` and `last` look.
        device, precision: as `TorchEngine` takes them; an export runs on the CPU.

    Raises:
        InputError: there is no such model, it is damaged, or it does not run with this device or precision.
    """
    folder = Path(ckpt_path).expanduser().absolute()
    if (folder / "model.json").exists():
        from weldnet.inference.exported import load_export

        return load_export(folder, device=device, precision=precision)
    return TorchEngine(load_checkpoint(find_checkpoint(ckpt_path, runs)), device, precision)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`pool.map` with at most `ahead` items begun and not yet taken."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
