"""A checkpoint whose judge is damaged is refused; it never passes images as like training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from untrained import save_untrained

from weldnet.errors import InputError
from weldnet.evaluation.judge import Outputs, fit_judge
from weldnet.inference.checkpoint import Checkpoint, convert, load_checkpoint
from weldnet.inference.engines import TorchEngine, first_line

CLASSES = ("good", "crack", "pore")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """With a judge of random outputs."""
    loaded = load_checkpoint(save_untrained(tmp_path_factory.mktemp("engines") / "a.ckpt", CLASSES))
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 512)).astype(np.float32)
    outputs = Outputs(rng.normal(size=(60, 3)), features, labels, [None] * 60)
    judge = fit_judge(CLASSES, ["good"], outputs, outputs, outputs, by_group=False).to_dict()
    return replace(loaded, record=replace(loaded.record, judge=convert(judge, np.ndarray, torch.from_numpy)))


def change(checkpoint: Checkpoint, where: str, value: Any) -> Checkpoint:
    """With another value at `judge.key`, `judge.key.key` or `key` of its record."""
    name, *keys = where.split(".")
    if not keys:
        return replace(checkpoint, record=replace(checkpoint.record, **{name: value}))
    judge: dict[str, Any] = dict(checkpoint.record.judge or {})
    if len(keys) == 2:
        value = judge[keys[0]] | {keys[1]: value}
    return replace(checkpoint, record=replace(checkpoint.record, judge=judge | {keys[0]: value}))


def test_a_whole_one(checkpoint: Checkpoint) -> None:
    scores = TorchEngine(checkpoint, "cpu").score(np.zeros((2, 3, 64, 32), np.uint8))
    assert np.isfinite(scores.distances).all()
    assert TorchEngine(change(checkpoint, "judge.point.accept_above", None), "cpu").facts.calibrated


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("judge.max_distance", float("nan"), "max_distance=nan"),
        ("judge.max_distance", 0.0, "max_distance=0"),
        ("judge.max_distance", float("inf"), "max_distance=inf"),
        ("judge.max_distance", "far", "real number"),
        ("judge.temperature", float("nan"), "temperature=nan"),
        ("judge.temperature", -1.0, "temperature=-1"),
        ("judge.point.accept_above", float("nan"), "accept_above=nan"),
        ("judge.point.accept_above", -5.0, "allowed are 0.5 to 1"),
        ("judge.point.reject_below", 0.9, "allowed are 0 to 0.5"),
        ("judge.point.accept_above", "0.9", "str"),
        ("judge.point.good_classes", ["bad"], "bad"),
        ("judge.classes", ["crack", "good", "pore"], "other classes"),
        ("judge.novelty.mean", torch.full((512,), float("nan")), "distances from training are not finite"),
        ("judge.novelty.mean", torch.zeros(7), "512"),
        ("judge.novelty.residual_variance", 0.0, "distances from training are not finite"),
        ("classes", ["good", "good", "pore"], "twice"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_ones(checkpoint: Checkpoint, where: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"a.ckpt is no checkpoint that runs: .*{message}"):
        TorchEngine(change(checkpoint, where, value), "cpu")


def test_an_error_without_words() -> None:
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(ValueError("\n one\ntwo")) == "one"
