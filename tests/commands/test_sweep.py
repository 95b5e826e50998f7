"""weldnet-sweep: several processes share a study, a killed one's trial is made again, and the best one is trained."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
import torch
from calling import call, exit_code, refuse
from fork_server import ForkServer
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from optuna.trial import TrialState
from trained import QUIET
from training_runs import quiet

from weldnet.config.sweep_settings import read_space
from weldnet.errors import InputError, MachineError

pytestmark = pytest.mark.usefixtures("welds_here", "undrawn")

LR = "sweep.space.optimizer.lr={low:1e-5,high:1e-2,log:true}"
BATCH = "sweep.space.data.batch_size={low:8,high:16,step:4}"
SWEEP = [*QUIET, LR, BATCH, "trainer.max_epochs=1", "sweep.trials=4", "sweep.heartbeat=1", "output_dir=found"]
KILL = "+callbacks.kill._target_=test_sweep.KillSecond"


class KillSecond(Callback):
    """Kills its process in the second trial, where the environment asks for it."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "KILL" in os.environ and (made := Path("made")).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        elif "KILL" in os.environ:
            made.touch()


def read_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="weldnet", storage=f"sqlite:///{folder}/study.db").trials


@pytest.mark.slow
@quiet
def test_two_processes_share_a_study_and_a_killed_trial_is_made_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forks: ForkServer
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with forks.start(here, "sweep", *SWEEP, KILL, environment={"KILL": "1"}) as process:
        process.wait_for("trial 0: ")
        call("sweep", *SWEEP, KILL)
        assert process.wait().code == -signal.SIGKILL
    assert "trial 1 done" not in capsys.readouterr().out
    trials = read_trials(here / "found")
    states = [trial.state for trial in trials]
    assert sorted(state.name for state in states) == ["COMPLETE"] * 4 + ["FAIL"]
    (killed,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    (again,) = (trial for trial in trials if trial.system_attrs.get("failed_trial") == killed.number)
    assert again.params == killed.params
    assert len({tuple(trial.params.items()) for trial in trials}) == 4

    # The same command has nothing left to do; a different one does not mix with it.
    call("sweep", *SWEEP, KILL)
    assert len(read_trials(here / "found")) == 5
    shown = capsys.readouterr().out
    assert "weldnet-train --config-dir found experiment=best" in shown
    assert "differs by" in shown
    assert re.search(r"found/trial_\d{4}_data.batch_size=\d+,optimizer.lr=[^ ]+ \*", shown)
    assert "optimizer.weight_decay: not as in" in refuse(capsys, "sweep", *SWEEP, KILL, "optimizer.weight_decay=0.5")
    table = pl.read_csv(here / "found" / "trials.csv")
    assert table["state"].to_list().count("complete") == 4
    assert table["val/balanced_accuracy"].drop_nulls().is_sorted(descending=True)
    assert (here / "found" / "history.png").is_file()
    for folder in (here / "found").glob("trial_*/metrics.json"):
        assert '"validation"' in folder.read_text()
        assert not (folder.parent / "test_predictions.csv").exists()

    call("train", "--config-dir", "found", "experiment=best", "output_dir=best", "test=false")
    trained = OmegaConf.load(here / "best" / "config.yaml")
    best = max((trial for trial in trials if trial.value is not None), key=lambda trial: trial.value or 0)
    assert trained.data.batch_size == best.params["data.batch_size"]
    assert trained.optimizer.lr == best.params["optimizer.lr"]
    assert trained.model.backbone == "test_resnet"


def fake_training(monkeypatch: pytest.MonkeyPatch, act: Callable[[Any], None]) -> None:
    """Puts `act`, which gets the callback of a trial, in the place of its training."""
    monkeypatch.setattr("weldnet.config.search.train_run", lambda *arguments: act(arguments[-1][0]))


def test_an_interrupted_trial_is_made_again_and_a_failed_one_is_not(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: Any) -> None:
        raise SystemExit(130)

    def diverge(_: Any) -> None:
        raise InputError("training has diverged")

    fake_training(monkeypatch, stop)
    assert exit_code("sweep", *SWEEP) == 130
    fake_training(monkeypatch, diverge)
    assert "no trial has finished its training; the last one: training has diverged" in refuse(capsys, "sweep", *SWEEP)
    trials = read_trials(here / "found")
    assert [trial.state for trial in trials] == [TrialState.FAIL, *[TrialState.PRUNED] * 4]
    assert trials[1].params == trials[0].params

    fake_training(monkeypatch, lambda report: report.figures.append(0.75))
    call("sweep", *SWEEP, "sweep.trials=6")
    assert [trial.value for trial in read_trials(here / "found")[5:]] == [0.75, 0.75]
    assert "6 of 6 trials done" in capsys.readouterr().out

    call("sweep", "--config-dir", "welds", *SWEEP, "sweep.trials=6")
    printed = capsys.readouterr().out
    assert "best:       trial 5, found/trial_0005_data.batch_size=" in printed
    assert f"file://{here / 'welds'}" in printed.partition("--config-dir found experiment=best 'hydra.searchpath=[")[2]


FAULTS = {
    "The same command makes this trial again: ": MachineError("the device has too little memory"),
    "last.ckpt: no space left on device": OSError(errno.ENOSPC, "No space left on device", "last.ckpt"),
    "sweep.storage cannot be written (full)": optuna.exceptions.StorageInternalError("full"),
    "": RuntimeError("CUDA error: uncorrectable ECC error encountered"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_of_the_machine_ends_the_sweep_and_spends_no_trial(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    def fail(_: Any) -> None:
        raise FAULTS[message]

    fake_training(monkeypatch, fail)
    if message:
        assert message in refuse(capsys, "sweep", *SWEEP)
    else:
        with pytest.raises(RuntimeError, match="ECC"):
            call("sweep", *SWEEP)
    fake_training(monkeypatch, lambda report: report.figures.append(0.75))
    call("sweep", *SWEEP, "sweep.trials=1")
    failed, again = read_trials(here / "found")
    assert (failed.state, again.state, again.params) == (TrialState.FAIL, TrialState.COMPLETE, failed.params)


@pytest.mark.parametrize("entry", ["fit", "predict"])
@pytest.mark.parametrize(("space", "state"), [(BATCH, TrialState.PRUNED), (LR, TrialState.FAIL)])
def test_a_batch_too_large_for_the_device_is_the_fault_of_a_trial_whose_size_is_searched(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    space: str,
    state: TrialState,
    entry: str,
) -> None:
    def fill_device(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(f"lightning.Trainer.{entry}", fill_device)
    message = refuse(capsys, "sweep", *QUIET, space, "sweep.trials=2", "output_dir=found")
    assert "too little memory for a batch (CUDA out of memory" in message
    states = [trial.state for trial in read_trials(here / "found") if trial.state.is_finished()]
    assert states == [state] * (2 if state == TrialState.PRUNED else 1)


@pytest.mark.parametrize(
    ("typed", "monitor"),
    [("callbacks=auto", "val/balanced_accuracy_by_group"), ("callbacks.best.monitor=val/loss", "val/loss")],
)
def test_a_trial_is_judged_by_what_chooses_its_epoch(
    here: Path, monkeypatch: pytest.MonkeyPatch, typed: str, monitor: str
) -> None:
    judged_by = set()

    def train(report: Any) -> None:
        judged_by.add((report.monitor, report.is_best_kept))
        report.figures.append(0.75)

    fake_training(monkeypatch, train)
    call("sweep", *SWEEP, typed)
    assert judged_by == {(monitor, True)}
    assert OmegaConf.load(here / "found" / "experiment" / "best.yaml").callbacks.best.monitor == monitor


WRONG = {
    "sweep.space.optimizer.lrr={low:1,high:2}": "did you mean 'lr'?",
    "sweep.space.optimizer.lr={low:2,high:1}": "sweep.space.optimizer.lr: ",
    "sweep.space.optimizer.lr={low:0,high:1,log:true}": "sweep.space.optimizer.lr: ",
    "sweep.space.optimizer.lr={low:1}": "needs two numbers",
    "sweep.space.optimizer.lr={low:1,high:inf}": "needs two numbers",
    "sweep.space.optimizer.lr={low:1,high:nan}": "needs two numbers",
    "sweep.space.optimizer.lr={low:1,high:2,logg:true}": "did you mean 'log'?",
    "sweep.space.optimizer.lr={choices:[]}": "sweep.space.optimizer.lr: ",
    "sweep.space.optimizer.lr=1": "in quotes: 'sweep.space.optimizer.lr={low:A,high:B}'",
    "sweep.space.data.batch_size={low:0,high:8}": "data.batch_size=0: allowed are 2",
    "sweep.space.data.batch_size={choices:[8,many]}": "many is not allowed",
    "sweep.space.data.shares.test={low:0.1,high:0.2}": "judged by different images",
    "sweep.monitor=test/accuracy": "so that the test stays unseen",
    "sweep.monitor=val/acuracy": "did you mean 'val/accuracy'?",
    "sweep.monitor=val/loss": "leave sweep.monitor out, or type both alike",
    "callbacks=auto sweep.monitor=val/loss": "by callbacks.best.monitor=val/balanced_accuracy_by_group",
    "callbacks.best.monitor=train/loss": "so that the test stays unseen",
    "data.group_pattern=null": "has no splits, and it is unknown",
    "sweep.trials=0": "whole numbers from 1",
    "sweep.storage=nowhere": "sweep.storage cannot be opened",
    "ckpt_path=last": "leave ckpt_path out",
    "trainer.devices=2": "take trainer.devices=1",
}


def test_a_range_ends_with_the_last_of_its_steps() -> None:
    with pytest.warns(UserWarning, match="replaced with"):
        assert dict(read_space({"rate": {"low": 1, "high": 10, "step": 4}}))["rate"]["high"] == 9


@pytest.mark.parametrize("typed", [*WRONG, "-m", "no space", "no optuna"])
def test_mistakes_are_explained(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    # Typed twice, a key of the space has the words of both.
    space = [] if typed.startswith("sweep.space.optimizer.lr=") else [LR]
    keys, message = [*space, *typed.split()], WRONG.get(typed, "")
    if typed == "no optuna":
        monkeypatch.setitem(sys.modules, "optuna", None)
        keys, message = [LR], "a sweep needs optuna; type "
    elif typed == "no space":
        keys, message = [], "sweep.space is empty"
    elif typed == "-m":
        message = "leave -m out"
    assert message in refuse(capsys, "sweep", *QUIET, *keys)
    assert not list(here.glob("runs/sweep/*/trial_*"))
