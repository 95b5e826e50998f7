"""The file of learning curves: a row an epoch, also over an interruption."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from weldnet.inference.history import HISTORY, read_history
from weldnet.training.progress import History


def train(folder: Path, epochs: range, *, validated: range, loss: float) -> None:
    callback, module = History(str(folder)), cast(Any, None)
    trainer = cast(Any, SimpleNamespace(current_epoch=epochs.start, callback_metrics={}, is_global_zero=True))
    callback.on_train_start(trainer, module)
    for epoch in epochs:
        trainer.current_epoch = epoch
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
    train(tmp_path, range(1, 4), validated=range(4), loss=5.0)
    rows = [(row["epoch"], row["train/loss_epoch"], row["val/loss"]) for row in read_history(tmp_path)]
    assert rows == [(1, 0, 10), (2, 6, 11), (3, 7, 12), (4, 8, 13)]


@pytest.mark.parametrize("content", [b"", b"epoch,val/loss\n1,high\n", b"epoch\n1,2,3\n", b"\xff\xfe\n"])
def test_a_damaged_history_is_a_warning(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_history(tmp_path) == []
    assert not caplog.records
    (tmp_path / HISTORY).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_history(tmp_path) == []
    assert "no learning curves" in caplog.text
