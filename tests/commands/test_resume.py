"""What may be typed beside ckpt_path: each key takes effect, or is refused before anything is written."""

import importlib
import math
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from calling import call, exit_code, refuse
from drawing import write_welds
from lightning import Callback, LightningModule, Trainer
from stopped import compose, find_stopped, write_stopped
from trained import CLASSES, QUIET
from untrained import save_untrained

from weldnet.config.literal import read_config
from weldnet.config.resume import StoppedRun
from weldnet.errors import InputError
from weldnet.inference import checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return here


@pytest.fixture
def welds(here: Path) -> Path:
    return write_welds(here / "welds", CLASSES, seams=range(8), shots=2, size=(32, 16))


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[StoppedRun]:
    """The runs that would be trained now."""
    runs: list[StoppedRun] = []
    module = importlib.import_module("weldnet.config.trainings")
    monkeypatch.setattr(module, "train_run", lambda cfg, folder, stopped, resume: runs.append(stopped))
    return runs


def read_all(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def read_last(run: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(run, "checkpoints", "last.ckpt"), weights_only=True)
    return content


SGD = ["optimizer=sgd", "scheduler=constant"]

REFUSED: list[tuple[list[str], str, str]] = [
    ([], "model.label_smoothing=0.3", "the weights of the run"),
    ([], "model.freeze_through=layer1", "model.freeze_through=layer1 is refused"),
    ([], "data.image_size.height=40", "geometry"),
    ([], "data.resize=letterbox", "geometry"),
    ([], "data.window=percentile", "window"),
    ([], "data.normalize=per_image", "per_image is refused on resume: what learned from one geometry"),
    ([], "seed=1", "no longer those of the run"),
    ([], "data.seed=1", "no longer those of the run"),
    ([], "seeds=2", "its epochs were trained with one seed"),
    ([], "data.shares.train=0.6", "no longer those of the run"),
    ([], "data.num_images=7", "no longer those of the run"),
    ([], "data.group_pattern=x", "no longer those of the run"),
    ([], "data.batch_size=8", "trained alike"),
    ([], "data.augmentation=light", "trained alike"),
    ([], "trainer.limit_train_batches=2", "trained alike"),
    ([], "trainer.accumulate_grad_batches=2", "trained alike"),
    ([], "callbacks.best.monitor=val/loss", "the best value so far is of val/balanced_accuracy"),
    ([], "callbacks.best.mode=min", "it follows from the monitor"),
    ([], "+callbacks.best.save_top_k=3", "trained alike"),
    ([], "callbacks.last.filename=other", "trained alike"),
    ([], "+callbacks.timer._target_=lightning.pytorch.callbacks.Timer", "trained alike"),
    ([], "evaluation.good_classes=[pore]", "type it in weldnet-test"),
    ([], "optimizer._target_=torch.optim.Adam", "state belongs to torch.optim.AdamW"),
    ([], "optimizer.fused=false", "only numbers"),
    ([], "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "state belongs to"),
    (SGD, "+scheduler.warmup_share=0.2", "constant"),
    (["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"], "optimizer.momentum=0.9", "no momentum"),
    (["callbacks=early_stopping"], "callbacks.early_stopping.monitor=val/loss", "values of two kinds"),
    (["callbacks=early_stopping"], "callbacks.early_stopping=null", "refused on resume"),
    (["scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"], "optimizer.lr=1", "restores its own plan"),
    (["scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"], "trainer.max_epochs=9", "restores its own plan"),
]


@pytest.mark.parametrize(("first", "typed", "expected"), REFUSED)
def test_a_change_is_refused(first: list[str], typed: str, expected: str, here: Path) -> None:
    write_stopped(here / "run", compose("train", here / "run", *first))
    with pytest.raises(InputError, match=re.escape(expected)):
        find_stopped("train", here / "run", typed)


AT_ONCE: list[tuple[list[str], str, str]] = [
    ([], "model.backbone=resnet34", "the weights of the run were made with resnet18"),
    ([], "callbacks.best.save_top_k=3", "no such key: callbacks.best.save_top_k"),
    ([], "model=resnet50", "the run's own model"),
    ([], "experiment=origin", "the run's own experiment"),
    ([], "optimizer=sgd", "the run's own optimizer"),
    ([], "optimizer.momentum=0.9", "no such key: optimizer.momentum"),
    ([], "callbacks.early_stopping.patience=4", "no such key: callbacks.early_stopping"),
    ([], "output_dir=other", "leave output_dir out"),
    ([], "optimizer.lr=fast", "optimizer.lr=fast"),
    ([], "data.num_workers=many", "data.num_workers=many: allowed is a whole number"),
    (SGD, "scheduler.warmup_share=0.2", "no such key: scheduler.warmup_share; scheduler has no keys here"),
    (["callbacks=early_stopping"], "callbacks.early_stopping.patiance=4", "callbacks.early_stopping.patience'"),
]
"""Of what is found before the changes, and some changes."""


@pytest.mark.parametrize(("first", "typed", "expected"), AT_ONCE)
def test_a_refused_key_changes_nothing(
    first: list[str],
    typed: str,
    expected: str,
    here: Path,
    resumed: list[StoppedRun],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_stopped(here / "run", compose("train", here / "run", *first))
    before = read_all(here)
    assert expected in refuse(capsys, "train", "ckpt_path=run", typed)
    assert read_all(here) == before
    assert not resumed


ACCEPTED: list[tuple[list[str], list[str]]] = [
    ([], ["optimizer.lr=1e-6", "optimizer.weight_decay=0.5"]),
    (["optimizer=sgd"], ["optimizer.momentum=0.5", "optimizer.lr=1"]),
    (["+optimizer.betas=[0.8,0.9]"], ["optimizer.betas=[0.9,0.99]"]),
    ([], ["scheduler.warmup_share=0.2", "scheduler.final_share=0.5"]),
    (["callbacks=early_stopping"], ["callbacks.early_stopping.patience=20"]),
    ([], ["trainer.max_epochs=40", "trainer.precision=bf16-mixed", "trainer.devices=1", "trainer.accelerator=cpu"]),
    ([], ["data.cache=memory", "data.num_workers=1", "data.cache_dir=${x}"]),
    ([], ["test=false", "decision.max_escape_rate=0.2", "callbacks.dashboard=null"]),
    ([], ["seed=0", "model.backbone=resnet18", "++data.batch_size=32"]),
    ([], ["ckpt_path=run"]),
]


@pytest.mark.parametrize(("first", "typed"), ACCEPTED)
def test_an_accepted_key_is_in_the_config(first: list[str], typed: list[str], here: Path, resumed: Any) -> None:
    write_stopped(here / "run", compose("train", here / "run", *first))
    call("train", "ckpt_path=run", *typed)
    (run,) = resumed
    for word in typed:
        key, _, value = word.lstrip("+").partition("=")
        node = run.cfg
        for name in key.split("."):
            node = node[name]
        shown = "null" if node is None else str(node).replace(" ", "").lower()
        assert key == "ckpt_path" or shown == value.lower() or float(node) == float(value)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("optimizer.lr=1", "optimizer.lr would make the folds differ"),
        ("trainer.max_epochs=9", "trainer.max_epochs would make the folds differ"),
        ("callbacks.best.monitor=val/loss", "callbacks.best.monitor would make"),
        ("num_folds=3", "num_folds would make"),
        ("seed=1", "seed would make"),
        ("data=folder", "data would make"),
        ("data.cach=none", "did you mean 'data.cache'"),
    ],
)
def test_one_table_serves_the_cross_validation(
    typed: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stopped(here / "run", compose("crossval", here / "run"))
    before = read_all(here)
    assert expected in refuse(capsys, "crossval", "ckpt_path=run", typed)
    assert read_all(here) == before


def test_a_damaged_config_is_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stopped(here / "run", compose("train", here / "run"))
    for text in ("seed: [1", "seed: x", "- a", "colour: red", "callbacks: [a]", "seed: \xe9\n"):
        (here / "run" / "config.yaml").write_bytes(text.encode("latin-1"))
        error = refuse(capsys, "train", "ckpt_path=run")
        assert "run" in error
        assert "damaged" in error, text


def test_a_config_of_aliases_is_refused_before_they_are_expanded(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stopped(here / "run", compose("train", here / "run"))
    file = here / "run" / "config.yaml"
    # Seven levels would be ten million values.
    levels = [f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 4)]
    hostile = "\n  ".join(["\nlogger:", "x0: &x0 [1, 2]", *levels])
    file.write_text(file.read_text().partition("\nlogger:")[0] + hostile + "\n")
    assert "damaged: it holds aliases" in refuse(capsys, "train", "ckpt_path=run")


def test_last_is_the_newest_run_though_it_has_no_epoch(here: Path, resumed: list[StoppedRun]) -> None:
    folders = [here / "runs" / "train" / name for name in ("b_older", "a_newer")]
    for order, folder in enumerate(folders):
        write_stopped(folder, compose("train", folder))
        os.utime(folder / "config.yaml", (1, 10**6 + order))
    (folders[1] / "checkpoints" / "last.ckpt").unlink()
    for ckpt_path in ("last", "runs/train/a_newer"):
        call("train", f"ckpt_path={ckpt_path}")
    assert [(run.folder, run.checkpoint) for run in resumed] == [(folders[1], None)] * 2


def test_a_newest_run_that_cannot_be_resumed_is_refused(
    here: Path, resumed: list[StoppedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "runs" / "train" / "run"
    write_stopped(folder, compose("train", folder, "callbacks.last=null"))
    (folder / "checkpoints" / "last.ckpt").unlink()
    for ckpt_path in ("last", "runs/train/run"):
        assert "holds no checkpoints/last.ckpt" in refuse(capsys, "train", f"ckpt_path={ckpt_path}")
    assert not resumed


@pytest.mark.parametrize("ckpt_path", ["run", "run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt"])
def test_a_resume_loads_what_it_resumes_from(
    ckpt_path: str, here: Path, resumed: list[StoppedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = write_stopped(here / "run", compose("train", here / "run")) / "checkpoints" / "last.ckpt"
    shutil.copy(last, last.with_name("best.ckpt"))
    load = Mock(wraps=checkpoint.load_checkpoint)
    monkeypatch.setattr(checkpoint, "load_checkpoint", load)
    call("train", f"ckpt_path={ckpt_path}")
    load.assert_called_once_with(last)
    assert len(resumed) == 1


def test_without_its_config_a_run_is_resumed_by_that_of_its_checkpoint(here: Path, resumed: list[StoppedRun]) -> None:
    write_stopped(here / "run", compose("train", here / "run", "data.batch_size=7"))
    (here / "run" / "config.yaml").unlink()
    call("train", "ckpt_path=run")
    (run,) = resumed
    assert (run.folder, run.cfg.data.batch_size) == (here / "run", 7)


@pytest.mark.parametrize(("key", "made", "other"), [("normalize", "imagenet", "per_image"), ("val", "unseen", "known")])
@pytest.mark.parametrize("command", ["train", "crossval"])
def test_a_run_from_before_a_choice_has_made_it(command: str, key: str, made: str, other: str, here: Path) -> None:
    config = compose(command, here / "run")
    assert config["data"].pop(key) == made
    write_stopped(here / "run", config)
    stopped = find_stopped(command, here / "run", "data.cache=memory")
    assert (stopped.cfg if isinstance(stopped, StoppedRun) else stopped.recipe).data[key] == made
    with pytest.raises(InputError, match=rf"data\.{key}"):
        find_stopped(command, here / "run", f"data.{key}={other}")


@pytest.mark.parametrize("command", ["train", "crossval"])
def test_a_run_to_resume_is_typed(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_stopped(here / "run", compose(command, here / "run"))
    (here / "own" / "experiment").mkdir(parents=True)
    text = f"# @package _global_\nckpt_path: {run}\noutput_dir: {run}\n"
    (here / "own" / "experiment" / "mine.yaml").write_text(text)
    error = refuse(capsys, command, "--config-dir", "own", "experiment=mine")
    assert "ckpt_path is typed, not set in a file" in error


class StopAfter(Callback):
    """Stops a run as a power cut would, once, at the start of the second epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.ckpt_path is None:
            raise ConnectionAbortedError


STOP = "+callbacks.stop._target_=test_resume.StopAfter"


def start(*arguments: str) -> None:
    """A run of three epochs that stops after its first."""
    with pytest.raises(ConnectionAbortedError):
        call("train", *QUIET, "test=false", "trainer.max_epochs=3", *arguments, STOP, "output_dir=run")


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_optimizer_settings_take_effect(welds: Path) -> None:
    start("model.layer_decay=0.5")
    call("train", "ckpt_path=run", STOP, "optimizer.lr=1e-6", "optimizer.weight_decay=0.5", "scheduler.final_share=0.5")
    content = read_last("run")
    (optimizer,), (schedule,) = content["optimizer_states"], content["lr_schedulers"]
    groups = {group["name"]: group for group in optimizer["param_groups"]}
    assert groups["head"]["lr"] == pytest.approx(0.5e-6), "the share with which it ends"
    assert groups["stage4"]["lr"] == pytest.approx(0.25e-6)
    assert groups["head"]["initial_lr"] == max(schedule["base_lrs"]) == 1e-6
    assert (groups["head"]["weight_decay"], groups["head_vectors"]["weight_decay"]) == (0.5, 0.0)
    for text in (Path("run/config.yaml").read_text(), content["weldnet"]["config"]):
        assert "lr: 1.0e-06" in text
        assert "weight_decay: 0.5" in text


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_momentum_and_a_constant_rate_take_effect(welds: Path) -> None:
    start(*SGD)
    call("train", "ckpt_path=run", STOP, "optimizer.momentum=0.5", "optimizer.lr=1e-4", "trainer.precision=bf16-mixed")
    content = read_last("run")
    group = content["optimizer_states"][0]["param_groups"][-1]
    assert (group["momentum"], group["lr"]) == (0.5, 1e-4)
    assert read_config(Path("run/config.yaml")).trainer.precision == "bf16-mixed"


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_patience_takes_effect(welds: Path) -> None:
    start("callbacks=early_stopping", "callbacks.early_stopping.patience=2")
    call("train", "ckpt_path=run", STOP, "callbacks.early_stopping.patience=20")
    states = read_last("run")["callbacks"]
    (state,) = [state for name, state in states.items() if name.startswith("EarlyStopping")]
    assert state["patience"] == 20


@pytest.mark.slow
def test_a_finished_cosine_continues_at_its_end_rate(welds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("train", *QUIET, "test=false", "trainer.max_epochs=2", "scheduler.final_share=0.01", "output_dir=run")
    assert "has finished its 2 epochs" in refuse(capsys, "train", "ckpt_path=run", "optimizer.lr=1")
    assert "has already trained 2 epochs" in refuse(capsys, "train", "ckpt_path=run", "trainer.max_epochs=1")
    end = [group["lr"] for group in read_last("run")["optimizer_states"][0]["param_groups"]]
    call("train", "ckpt_path=run")
    (proposed,) = re.findall(r"trainer\.max_epochs=4", capsys.readouterr().out)
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[-1]["lr"])

    module = importlib.import_module("weldnet.training.fit")
    with pytest.MonkeyPatch.context() as patch:
        renewal = module.Renewal
        patch.setattr(module, "Renewal", lambda callbacks: callbacks.append(Rates()) or renewal(callbacks))
        call("train", "ckpt_path=run", proposed)
    assert len(rates) >= 2
    assert all(math.isclose(rate, end[-1]) for rate in rates)
    assert read_last("run")["epoch"] == 3


PHASES = ["calibrate", "evaluate", "write_report", "draw_test"]


def break_off(patch: pytest.MonkeyPatch, phase: str, error: BaseException) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise error

    patch.setattr(importlib.import_module("weldnet.training.fit"), phase, stop)


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "early"), [*((phase, False) for phase in PHASES), (PHASES[0], True)])
def test_a_run_that_was_killed_after_its_last_epoch_is_completed(
    phase: str, early: bool, welds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*QUIET, "trainer.max_epochs=2", "output_dir=run"]
    if early:
        arguments += ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"]
        arguments += ["trainer.max_epochs=9"]
    with monkeypatch.context() as patch:
        break_off(patch, phase, ConnectionAbortedError())
        with pytest.raises(ConnectionAbortedError):
            call("train", *arguments)
    trained = read_last("run")["epoch"]
    capsys.readouterr()
    call("train", "ckpt_path=run")
    assert "epoch 1/" not in capsys.readouterr().out
    assert read_last("run")["epoch"] == trained, "nothing was trained"
    assert Path("run/report.html").is_file()
    call("train", "ckpt_path=run")
    assert "is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fold_that_was_killed_after_its_last_epoch_is_completed(
    welds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*QUIET, "trainer.max_epochs=1", "num_folds=2", "output_dir=run"]
    with monkeypatch.context() as patch:
        break_off(patch, "write_report", ConnectionAbortedError())
        with pytest.raises(ConnectionAbortedError):
            call("crossval", *arguments)
    assert Path("run/fold_0/metrics.json").is_file()
    assert not Path("run/fold_0/report.html").is_file()
    call("crossval", "ckpt_path=run")
    printed = capsys.readouterr().out
    assert printed.count("epoch 1/1") == 2, "the first fold is not trained again"
    assert Path("run/fold_0/report.html").is_file()
    before = read_all(Path("run"))
    for typed in ([], ["data.fold=1"]):
        call("crossval", "ckpt_path=run", *typed)
        assert "is complete" in capsys.readouterr().out
    assert read_all(Path("run")) == before, "nothing was written"


class CtrlC(Callback):
    """Interrupts a run in the middle of an epoch, once."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and not Path("interrupted").exists():
            Path("interrupted").touch()
            raise KeyboardInterrupt


CTRL_C = "+callbacks.ctrl_c._target_=test_resume.CtrlC"


def find_proposed(text: str) -> list[list[str]]:
    """The commands that a text proposes, as words."""
    lines = re.findall(r"\S*weldnet-[a-z]+ \S+=.*", text)
    return [shlex.split(line) for line in lines]


def run_proposed(words: list[str], *further: str) -> None:
    script, *arguments = words
    command = Path(script).name.removeprefix("weldnet-")
    assert exit_code(command, *(word.replace("source=DIR", "source=welds") for word in arguments), *further) == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "crossval"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_what_ctrl_c_proposes_works(command: str, epoch: int, welds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds = ["num_folds=2", "data.fold=1"] if command == "crossval" else []
    arguments = [*QUIET, "trainer.max_epochs=2", *folds, CTRL_C, f"+callbacks.ctrl_c.epoch={epoch}", "output_dir=run"]
    assert exit_code(command, *arguments) == 130
    (proposed,) = find_proposed(capsys.readouterr().out)
    # A callback of one's own is typed again.
    run_proposed(proposed, CTRL_C)
    printed = capsys.readouterr().out
    assert printed.count("epoch 1/2") == (1 if epoch == 0 else 0)
    assert Path("run", *(["fold_1"] if folds else []), "report.html").is_file()


UNDER_WAY = {
    "train": ("weldnet.model.classifier.WeldClassifier.training_step", [*QUIET, "trainer.max_epochs=1"]),
    "crossval": (
        "weldnet.model.classifier.WeldClassifier.training_step",
        [*QUIET, "trainer.max_epochs=1", "num_folds=2", "data.fold=1"],
    ),
    "predict": ("weldnet.inference.prediction.Prediction.to_row", ["ckpt_path=a.ckpt", "source=welds"]),
    "explain": ("weldnet.report.explained.draw_picture", ["ckpt_path=a.ckpt", "source=welds", "device=cpu"]),
}
"""Of each command that can be resumed, a function in the middle of its work, and what is typed."""


@pytest.mark.slow
@pytest.mark.parametrize("command", UNDER_WAY)
def test_what_sigterm_proposes_works(
    command: str, welds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unheeded: object
) -> None:
    save_untrained(Path("a.ckpt"), CLASSES, backbone="test_resnet")
    function, arguments = UNDER_WAY[command]
    with monkeypatch.context() as patch:
        patch.setattr(function, lambda *_: signal.raise_signal(signal.SIGTERM))
        assert exit_code(command, *arguments, "output_dir=run") == 130
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("interrupted; resume with: ")
    assert not Path("run/.lock").exists()
    (proposed,) = find_proposed(printed)
    run_proposed(proposed)
    assert signal.getsignal(signal.SIGTERM) is unheeded


@pytest.mark.slow
@pytest.mark.parametrize("phase", [PHASES[0], PHASES[-1]])
def test_ctrl_c_after_the_last_epoch_proposes_what_completes(
    phase: str, welds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        break_off(patch, phase, KeyboardInterrupt())
        assert exit_code("train", *QUIET, "trainer.max_epochs=1", "output_dir=run") == 130
    (proposed,) = find_proposed(capsys.readouterr().out)
    run_proposed(proposed)
    assert Path("run/report.html").is_file()
    assert "is complete" not in capsys.readouterr().out
