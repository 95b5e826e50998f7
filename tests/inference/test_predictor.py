"""Files to predictions, in order, on several threads, in bounded memory."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from brightness import FACTS, BrightnessEngine
from drawing import save_image
from numpy.typing import NDArray
from untrained import save_untrained

from weldnet.inference.engines import Scores
from weldnet.inference.predictor import Predictor, load_engine


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """90 images from black to white."""
    folder = tmp_path_factory.mktemp("grey")
    return [str(save_image(folder / f"{n:02d}.png", np.full((8, 4, 3), 2 * n, np.uint8))) for n in range(90)]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_order_verdicts_and_digests(files: list[str], num_threads: int) -> None:
    with Predictor(BrightnessEngine(), num_threads) as predictor:
        predictions = list(predictor.predict_files(files))
    assert [each.path for each in predictions] == files
    for number, each in enumerate(predictions):
        bright = 2 * number / 255
        assert each.probabilities == pytest.approx({"good": bright, "pore": 1 - bright}, abs=5.1e-8), "seven decimals"
        expected = "refer" if not number else "accept" if bright > 0.7 else "reject" if bright < 0.3 else "refer"
        assert (each.verdict, each.unlike_training) == (expected, number == 0)
        assert each.predicted == ("good" if bright > 0.5 else "pore")
        assert each.sha256 == hashlib.sha256(Path(files[number]).read_bytes()).hexdigest()
        assert (each.model_digest, each.error) == (FACTS.digest, None)


def test_a_checkpoint_that_is_not_calibrated_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Predictor(str(save_untrained(tmp_path / "a.ckpt")), 1) as predictor:
        predictor.predict_contents(["a", "b"], [b"", b""])
    assert [record.getMessage()[:35] for record in caplog.records] == ["the checkpoint is not calibrated, s"]


def test_files_that_cannot_be_read_keep_their_row(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    mixed = [str(tmp_path / "none.png"), *files[:3], str(tmp_path / "text.jpg"), str(tmp_path)]
    with Predictor(BrightnessEngine(), 1) as predictor:
        predictions = list(predictor.predict_files(mixed))
        assert list(predictor.predict_files([])) == []
    assert [each.path for each in predictions] == mixed
    assert [each.error is None for each in predictions] == [False, True, True, True, False, False]
    assert predictions[0].error == "no such file"
    assert predictions[0].sha256 is None
    assert predictions[4].sha256 == hashlib.sha256(b"no image").hexdigest()
    assert all((each.predicted, each.verdict) == (None, None) for each in predictions if each.error)


def test_contents_are_predicted_as_files_are(files: list[str]) -> None:
    with Predictor(BrightnessEngine(), 2) as predictor:
        by_file = list(predictor.predict_files(files[:5]))
        by_content = predictor.predict_contents(files[:5], [Path(file).read_bytes() for file in files[:5]])
    for one, other in zip(by_file, by_content, strict=True):
        assert one.to_row(FACTS.classes) | {"time": ""} == other.to_row(FACTS.classes) | {"time": ""}


def test_a_handful_of_files_is_shared_out(files: list[str]) -> None:
    engine = BrightnessEngine()
    with Predictor(engine, 3) as predictor:
        list(predictor.predict_files(files[:7]))
    assert sorted(engine.calls) == [1, 3, 3]


def test_no_more_batches_are_begun_than_twice_the_threads(files: list[str]) -> None:
    begun = threading.Semaphore(0)

    class CountingEngine(BrightnessEngine):
        def score(self, images: NDArray[np.uint8]) -> Scores:
            begun.release()
            return super().score(images)

    with Predictor(CountingEngine(), 2) as predictor:
        predictor.batch_size = 1
        predictions = predictor.predict_files(files)
        for _ in range(10):
            next(predictions)
        # Whatever the threads can do, they have done when the pool is idle.
        predictor.pool.shutdown()
        assert 10 <= sum(begun.acquire(blocking=False) for _ in files) <= 10 + 4


def test_an_engine_that_fails_ends_it(files: list[str]) -> None:
    with Predictor(BrightnessEngine(fail_after=40), 2) as predictor, pytest.raises(KeyboardInterrupt):
        list(predictor.predict_files(files))


def test_no_model() -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        load_engine("nowhere.ckpt")
