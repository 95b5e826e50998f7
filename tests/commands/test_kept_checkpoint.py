"""What a run keeps is what was measured, and what was asked for is kept or refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from boards import read_scalars
from calling import call, refuse
from checking import check_training
from omegaconf import DictConfig, OmegaConf
from trained import QUIET, SMALL, TINY

from weldnet.config.build import build_data
from weldnet.errors import InputError
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("welds_here", "undrawn")

CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
EMA = "lightning.pytorch.callbacks.EMAWeightAveraging"
RUN = [*TINY, "output_dir=run"]


REFUSED = {
    # A direction that contradicts the figure.
    "callbacks.best.monitor=val/loss callbacks.best.mode=max": "with which it is min",
    "callbacks.best.mode=min": "with which it is max",
    "callbacks.best.monitor=val_recall/good callbacks.best.mode=min": "with which it is max",
    "callbacks=early_stopping callbacks.early_stopping.mode=min": "callbacks.early_stopping.mode=min contradicts",
    "callbacks=early_stopping callbacks.early_stopping.monitor=train/loss +callbacks.early_stopping.mode=max": "is min",
    # A figure that will not be there.
    "callbacks.best.monitor=val/los": "did you mean 'val/loss'",
    "callbacks.best.monitor=train/balanced_accuracy_by_group": "is not logged",
    "callbacks.best.monitor=val_recall/goood": "did you mean 'good'",
    "callbacks=early_stopping callbacks.early_stopping.monitor=val_recall/crack": "there are good, pore",
    "trainer.limit_val_batches=0": "before the first validation",
    "trainer.check_val_every_n_epoch=9": "before the first validation",
    "trainer.max_steps=1": "before the first validation",
    "callbacks=early_stopping callbacks.best=null trainer.limit_val_batches=0": "monitor of EarlyStopping",
    # Files that would overwrite one another, or not be there.
    "+callbacks.best.save_top_k=3": "each file would be best.ckpt",
    "+callbacks.best.save_top_k=-1": "each file would be best.ckpt",
    "+callbacks.last.save_top_k=-1": "each file would be last.ckpt",
    "+callbacks.best.save_top_k=0": "callbacks.best=null",
    "+callbacks.best.save_last=true": "callbacks.last writes last.ckpt",
    "callbacks.best.filename=other": "writes checkpoints/best.ckpt",
    "callbacks.best.filename='best-{epoch}'": "writes checkpoints/best.ckpt",
    "callbacks.best.filename=last": "writes checkpoints/best.ckpt",
    "callbacks.best.dirpath=elsewhere": "callbacks.best.dirpath",
    "callbacks.last.dirpath=null": "writes checkpoints/last.ckpt",
    f"+callbacks.a._target_={CHECKPOINT} +callbacks.a.filename=best +callbacks.a.monitor=val/loss": "the same file",
    "callbacks.best=null callbacks.last=null": "neither callbacks.best nor callbacks.last",
    # Files that would hold something else than they are for.
    "callbacks.best.monitor=null": "callbacks=keep_last",
    "+callbacks.best.every_n_train_steps=1": "the weights that were measured",
    "+callbacks.best.save_on_exception=true": "the weights that were measured",
    "+callbacks.best.save_on_train_epoch_end=true": "with which it is False",
    "+callbacks.last.monitor=val/loss": "to resume from",
    "+callbacks.last.save_weights_only=true": "to resume from",
    "+callbacks.last.every_n_epochs=2": "to resume from",
    "+callbacks.last.every_n_train_steps=1": "to resume from",
    "callbacks.last.save_on_train_epoch_end=false": "to resume from",
    # Averages.
    "+callbacks.swa._target_=lightning.pytorch.callbacks.StochasticWeightAveraging +callbacks.swa.swa_lrs=0.1": "EMA",
    f"+callbacks.a._target_={EMA} +callbacks.b._target_={EMA}": "both average",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_contradicts_itself_is_refused(here: Path, typed: str) -> None:
    with pytest.raises(InputError, match=re.escape(REFUSED[typed])):
        check_training(here / "run", *typed.split())


@pytest.mark.parametrize(
    "typed",
    [
        "callbacks.best.monitor=val/loss callbacks.best.mode=max",
        "callbacks.best.monitor=val_recall/goood",
        "callbacks=early_stopping callbacks.early_stopping.monitor=val_recall/crack",
        "+callbacks.best.save_top_k=3",
    ],
)
def test_what_would_keep_something_else_is_refused(here: Path, capsys: pytest.CaptureFixture[str], typed: str) -> None:
    message = refuse(capsys, "train", *SMALL, "output_dir=run", *typed.split())
    assert REFUSED[typed] in message
    assert not (here / "run").exists()


def load(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def measure(run: Path, name: str) -> dict[str, Any]:
    """The figures of a checkpoint on the images that chose the epoch."""
    checkpoint = load_checkpoint(run / "checkpoints" / f"{name}.ckpt")
    cfg = OmegaConf.create(checkpoint.card.config)
    assert isinstance(cfg, DictConfig)
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    metrics: dict[str, Any] = evaluate(checkpoint, data, "select", "cpu").metrics()
    return metrics


FAST_AVERAGE = f"+callbacks.ema._target_={EMA} +callbacks.ema.decay=0.7"
AT_EPOCH_END = "+callbacks.ema.update_every_n_steps=0 +callbacks.ema.update_starting_at_epoch=0"
MOVING = FAST_AVERAGE.replace(EMA, "weldnet.training.averaging.MovingAverage")
MEAN = "+callbacks.mean._target_=lightning.pytorch.callbacks.WeightAveraging"


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    "typed",
    [
        "",
        "callbacks=early_stopping callbacks.early_stopping.monitor=val/loss",
        "trainer.val_check_interval=0.5",
        FAST_AVERAGE,
        f"{FAST_AVERAGE} {AT_EPOCH_END}",
        f"{FAST_AVERAGE} trainer.val_check_interval=0.5 callbacks.best.save_weights_only=false",
        f"{MOVING} trainer.val_check_interval=0.5",
        MEAN,
    ],
)
def test_the_best_checkpoint_holds_the_lowest_loss_that_was_measured(here: Path, typed: str) -> None:
    call("train", *RUN, *typed.split(), "callbacks.best.monitor=val/loss", "optimizer.lr=2e-2", "test=false")
    logged = read_scalars(here / "run", "val/loss")
    assert len(set(logged)) >= 3
    # What is logged is a mean in float32, whose steps near a probability of 1 are 1e-7.
    assert measure(here / "run", "best")["loss"] == pytest.approx(min(logged), rel=1e-4, abs=1e-7)


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_the_best_checkpoint_by_the_loss_of_training(here: Path) -> None:
    call("train", *RUN, "callbacks.best.monitor=train/loss", "optimizer.lr=2e-2", "test=false")
    losses = read_scalars(here / "run", "train/loss_epoch")
    assert load(here / "run", "best")["epoch"] == losses.index(min(losses))


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_a_run_keeps_further_epochs_under_names_of_their_own(here: Path) -> None:
    mine = [f"+callbacks.mine._target_={CHECKPOINT}", "+callbacks.mine.filename='each-{epoch}'"]
    more = [
        "+callbacks.mine.monitor=val/loss",
        "+callbacks.mine.save_top_k=-1",
        "+callbacks.mine.save_weights_only=true",
    ]
    call("train", *RUN, *mine, *more, "test=false")
    files = sorted(file.name for file in (here / "run" / "checkpoints").iterdir())
    assert files == ["best.ckpt", "each-epoch=0.ckpt", "each-epoch=1.ckpt", "each-epoch=2.ckpt", "last.ckpt"]


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize("typed", [FAST_AVERAGE, MOVING])
def test_a_resumed_average_equals_an_uninterrupted_one(here: Path, typed: str) -> None:
    stop = "+callbacks.stop._target_=training_runs.StopAfterFirstEpoch"
    average = [*typed.split(), "data.mixup=0.2", "test=false"]
    call("train", *QUIET, *average, "output_dir=whole")
    with pytest.raises(ConnectionAbortedError):
        call("train", *QUIET, *average, "output_dir=stopped", stop)
    call("train", "ckpt_path=stopped", stop)
    for name, keys in (("best", ["state_dict"]), ("last", ["state_dict", "current_model_state", "averaging_state"])):
        whole, resumed = load(here / "whole", name), load(here / "stopped", name)
        for key in keys:
            assert whole[key].keys() == resumed[key].keys()
            assert all(torch.equal(value, resumed[key][part]) for part, value in whole[key].items()), (name, key)
    assert "current_model_state" not in load(here / "whole", "best")


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "callbacks=early_stopping callbacks.early_stopping.monitor=val/loss callbacks.early_stopping.patience=1 "
            "+callbacks.early_stopping.min_delta=9",
            "after epoch 2 of 9: Monitored metric val/loss did not improve in the last 1 records. Best score:",
        ),
        (
            "callbacks=early_stopping callbacks.early_stopping.patience=1 +callbacks.early_stopping.min_delta=9 "
            "trainer.min_epochs=4",
            "after epoch 4 of 9: Monitored metric val/balanced_accuracy did not improve in the last 3 records.",
        ),
        (
            "callbacks=early_stopping +callbacks.early_stopping.stopping_threshold=0.1",
            "after epoch 1 of 9: Stopping threshold reached: val/balanced_accuracy = ",
        ),
        # Time for an epoch on a slow machine, and more epochs than a fast one can do in it.
        ("trainer.max_time=00:00:00:04 trainer.max_epochs=99999", "trainer.max_time is over"),
        ("trainer.max_steps=8", "trainer.max_steps=8 are done"),
    ],
)
def test_a_training_that_ends_early_says_when_and_why(
    here: Path, capsys: pytest.CaptureFixture[str], typed: str, message: str
) -> None:
    call("train", *RUN, "trainer.max_epochs=9", *typed.split(), "test=false")
    assert message in capsys.readouterr().out
    assert message in (here / "run" / "train.log").read_text()


@pytest.mark.slow
def test_a_training_without_one_whole_step_keeps_nothing_and_says_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "before an epoch was finished" in refuse(capsys, "train", *RUN, "trainer.max_time=00:00:00:00")


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_a_falling_loss_is_not_stopped_nor_is_an_end_explained_that_was_planned(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/loss"]
    slowly = ["optimizer.lr=1e-4", "callbacks.early_stopping.patience=2", "trainer.max_epochs=4"]
    call("train", *RUN, *stopping, *slowly, "test=false")
    printed = capsys.readouterr().out
    assert "epoch 4/4" in printed
    assert "stopped" not in printed
