"""The file of learning curves: a row an epoch, also over an interruption."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from weldnet.inference.history import HISTORY, read_history
from weldnet.model.classifier import WeldClassifier
from weldnet.training.progress import History


class CountingClassifier(WeldClassifier):
    """Has counted, in epoch e, what its accuracies say: e / 10, and none for balanced accuracy."""

    epoch = 0

    def __init__(self) -> None:
        """Without a network."""
        self.classes = []

    @property
    def train_sums(self) -> Any:  # type: ignore[override]
        figures = {"accuracy": self.epoch / 10, "balanced_accuracy": math.nan}
        return SimpleNamespace(measure=lambda classes: figures)


def train(folder: Path, epochs: range, *, validated: range, loss: float) -> None:
    callback, module = History(str(folder)), CountingClassifier()
    trainer = cast(Any, SimpleNamespace(current_epoch=epochs.start, callback_metrics={}, is_global_zero=True))
    callback.on_train_start(trainer, module)
    for epoch in epochs:
        trainer.current_epoch = module.epoch = epoch
        callback.on_train_epoch_start(trainer, module)
        trainer.callback_metrics["train/loss_epoch"] = torch.tensor(loss + epoch)
        if epoch in validated:
            trainer.callback_metrics["val/loss"] = torch.tensor(10.0 + epoch)
            callback.on_validation_end(trainer, module)
        callback.on_train_epoch_end(trainer, module)


def test_a_resumed_run_replaces_what_it_trains_again(tmp_path: Path) -> None:
    train(tmp_path, range(3), validated=range(1), loss=0.0)
    rows = [(row["epoch"], row["train/loss_epoch"], row["val/loss"]) for row in read_history(tmp_path)]
    assert rows == [(1, 0, 10), (2, 1, None), (3, 2, None)], "a figure stands beside the epoch it was measured after"
    assert [(row["train/accuracy"], row["train/balanced_accuracy"]) for row in read_history(tmp_path)] == [
        (epoch / 10, None) for epoch in range(3)
    ], "of the epoch that ended, not of the one that was logged before"
    train(tmp_path, range(1, 4), validated=range(4), loss=5.0)
    rows = [(row["epoch"], row["train/loss_epoch"], row["val/loss"]) for row in read_history(tmp_path)]
    assert rows == [(1, 0, 10), (2, 6, 11), (3, 7, 12), (4, 8, 13)]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_left_out(number: float, tmp_path: Path) -> None:
    train(tmp_path, range(1), validated=range(1), loss=number)
    assert read_history(tmp_path)[0] == {
        **dict.fromkeys(read_history(tmp_path)[0]),
        "epoch": 1,
        "train/accuracy": 0,
        "val/loss": 10,
    }
    (tmp_path / HISTORY).write_text(f"epoch,val/loss\n1,{number}\n")
    assert read_history(tmp_path) == [{"epoch": 1, "val/loss": None}]


def test_a_run_resumed_within_an_epoch_has_its_history(tmp_path: Path) -> None:
    callback, module = History(str(tmp_path)), cast(Any, None)
    metrics = {"train/loss_epoch": torch.tensor(1.0), "val/loss": torch.tensor(2.0)}
    trainer = cast(Any, SimpleNamespace(current_epoch=0, callback_metrics=metrics, is_global_zero=True))
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_end(trainer, module)
    assert [(row["epoch"], row["train/loss_epoch"], row["val/loss"]) for row in read_history(tmp_path)] == [
        (1, 1, None)
    ]


@pytest.mark.parametrize(
    "content", [b"", b"val/loss\n1\n", b"epoch,val/loss\n1,high\n", b"epoch\n1,2,3\n", b"\xff\xfe\n"]
)
def test_a_damaged_history_is_a_warning(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_history(tmp_path) == []
    assert not caplog.records
    (tmp_path / HISTORY).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_history(tmp_path) == []
    assert "no learning curves" in caplog.text
