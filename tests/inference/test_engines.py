"""A checkpoint whose judge is damaged is refused; it never passes images as like training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import make_card, save_untrained

from weldnet.errors import InputError, first_line
from weldnet.evaluation.judge import Outputs, fit_judge
from weldnet.inference.checkpoint import RECORD, load_checkpoint
from weldnet.inference.torch_engine import TorchEngine

CLASSES = ("good", "crack", "pore")
BACKBONE = "test_resnet"
"""Small, and with 96 features."""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands in a checkpoint with a judge of random outputs."""
    file = save_untrained(tmp_path_factory.mktemp("engines") / "a.ckpt", CLASSES, backbone=BACKBONE)
    content: dict[str, Any] = torch.load(file)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 96)).astype(np.float32)
    outputs = Outputs(rng.normal(size=(60, 3)), features, labels)
    judge = fit_judge(CLASSES, ["good"], outputs, outputs, outputs, by_group=False)
    return content | {RECORD: make_card(judge=judge, backbone=BACKBONE).to_plain()}


def change(nest: Any, where: str, value: Any) -> Any:
    """The same nest with a different value at `key.key`; the keys of a tuple are numbers."""
    key, _, rest = where.partition(".")
    if isinstance(nest, tuple):
        return tuple(change({str(number): each for number, each in enumerate(nest)}, where, value).values())
    return nest | {key: change(nest[key], rest, value) if rest else value}


def load_changed(content: dict[str, Any], folder: Path, where: str, value: Any) -> TorchEngine:
    torch.save(content | {RECORD: change(content[RECORD], where, value)}, folder / "a.ckpt")
    return TorchEngine(load_checkpoint(folder / "a.ckpt"), "cpu")


def test_a_whole_one(content: dict[str, Any], tmp_path: Path) -> None:
    engine = load_changed(content, tmp_path, "judge.point.accept_above", None)
    assert engine.facts.calibrated
    assert np.isfinite(engine.score(np.zeros((2, 3, 64, 32), np.uint8)).distances).all()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("judge.max_distance", float("nan"), "max_distance: .*finite"),
        ("judge.max_distance", 0.0, "max_distance: .*greater than 0"),
        ("judge.max_distance", float("inf"), "max_distance: .*finite"),
        ("judge.max_distance", "far", "max_distance: .*valid number"),
        ("judge.temperature", float("nan"), "temperature: .*finite"),
        ("judge.temperature", -1.0, "temperature: .*greater than 0"),
        ("judge.point.accept_above", float("nan"), "accept_above: .*finite"),
        ("judge.point.accept_above", -5.0, "accept_above: .*greater than or equal to 0.5"),
        ("judge.point.reject_below", 0.9, "reject_below: .*less than or equal to 0.5"),
        ("judge.point.accept_above", "0.9", "accept_above: .*valid number"),
        ("judge.point.good_classes", ["bad"], "good class"),
        ("judge.classes", ["crack", "good", "pore"], "other classes"),
        ("judge.novelty.0.mean", torch.full((96,), float("nan")), "distances from training are not finite"),
        ("judge.novelty.0.mean", torch.zeros(7), "96"),
        ("judge.novelty.0.residual_variance", 0.0, "distances from training are not finite"),
        ("classes", ["good", "good", "pore"], "twice"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_ones(content: dict[str, Any], tmp_path: Path, where: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"a.ckpt(: its record is damaged| is no checkpoint that runs): .*{message}"):
        load_changed(content, tmp_path, where, value)


def test_an_error_without_words() -> None:
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(ValueError("\n one\ntwo")) == "one"
