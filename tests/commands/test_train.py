"""weldnet-train and weldnet-test through their real main, on drawn welds."""

import json
import re
import shutil
import signal
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import call, exit_code, refuse
from fork_server import ForkServer
from lightning import Callback, LightningModule, Trainer
from training_runs import DRAWN, FEW_WELDS, Batch

import weldnet
from weldnet.model.classifier import WeldClassifier
from weldnet.training import progress

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = [
    *DRAWN,
    "data.image_size.height=64",
    "data.image_size.width=16",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    *FEW_WELDS,
]
PACKAGE = Path(weldnet.__file__).parent
QUICK = [*SMALL, "callbacks.dashboard=null", "logger.tensorboard=null"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # One drawn set for all of these tests.
    monkeypatch.setenv("WELDNET_CACHE", str(cache))
    return tmp_path


def read(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def only_run(here: Path, command: str = "train") -> Path:
    (run,) = (here / "runs" / command).iterdir()
    return run


class StopAfter(Callback):
    """Stops a run as a power cut would: an exception right after the first epoch's checkpoint."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.ckpt_path is None:
            raise ConnectionAbortedError


STOP = "+callbacks.stop._target_=test_train.StopAfter"


@pytest.mark.slow
def test_the_same_command_gives_the_same_metrics(here: Path) -> None:
    for folder in ("a", "b"):
        call("train", *QUICK, f"output_dir={folder}")
    metrics = [read(here / folder) for folder in ("a", "b")]
    for each in metrics:
        # The checkpoint names its own folder, so its digest differs.
        del each["checkpoint_digest"], each["validation"]["checkpoint_digest"]
    assert metrics[0] == metrics[1]
    assert (here / "a" / "predictions.csv").read_bytes() == (here / "b" / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_worker_processes_resume_with_the_batches_of_the_next_epoch(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [*QUICK, "trainer.max_epochs=2", "data.cache=none", "data.num_workers=1", "test=false"]
    call("train", *typed, "output_dir=whole")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(ConnectionAbortedError):
        call("train", *typed, "output_dir=stopped", STOP)
    call("train", "ckpt_path=stopped", STOP)
    assert (here / "stopped" / "history.csv").read_text() == (here / "whole" / "history.csv").read_text()


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three = [*QUICK, "trainer.max_epochs=3", "data.augmentation=weld", "test=false"]
    call("train", *three, "output_dir=whole")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(ConnectionAbortedError):
        call("train", *three, "output_dir=stopped", STOP)
    assert not (here / "stopped" / "metrics.json").exists()
    assert "type it again" in refuse(capsys, "train", "ckpt_path=stopped")
    for changed in ("seed=1", "data.num_images=78", "data.shares.train=0.65"):
        arguments = ["ckpt_path=stopped", STOP, changed, "data.shares.val=0.2" if "shares" in changed else "test=false"]
        assert "no longer those of the run" in refuse(capsys, "train", *arguments)
    shutil.copytree("stopped", "copied")
    assert "was created as" in refuse(capsys, "train", "ckpt_path=copied", STOP)
    call("train", "ckpt_path=stopped", STOP)
    weights = [
        torch.load(here / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("whole", "stopped")
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    validation = [read(here / run)["validation"]["confusion_matrix"] for run in ("whole", "stopped")]
    assert validation[0] == validation[1]


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_a_transform_of_ones_own_augments_and_is_resumed_exactly(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = "+data.augmentation._target_=torchvision.transforms.v2.RandomAffine"
    three = [*QUICK, "trainer.max_epochs=2", target, "+data.augmentation.degrees=20", "test=false"]
    call("train", *three, "output_dir=whole")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(ConnectionAbortedError):
        call("train", *three, "output_dir=stopped", STOP)
    assert f"type it again: {target}" in refuse(capsys, "train", "ckpt_path=stopped", STOP)
    call("train", "ckpt_path=stopped", STOP, target)
    call("train", *QUICK, "trainer.max_epochs=2", "data.augmentation=none", "test=false", "output_dir=plain")
    whole, stopped, plain = (
        torch.load(here / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("whole", "stopped", "plain")
    )
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    assert not all(torch.equal(value, plain[name]) for name, value in whole.items())
    # A test augments nothing, so what the checkpoint names there is not made.
    call("test", "ckpt_path=stopped", "output_dir=tested")


@pytest.mark.slow
def test_the_origin_keeps_and_tests_the_last_epoch(here: Path) -> None:
    others = [key for key in QUICK[1:] if not key.startswith("callbacks=")]
    call("train", "experiment=origin", "model.weights=none", *others, "data.batch_size=16", "output_dir=run")
    assert [file.name for file in (here / "run" / "checkpoints").iterdir()] == ["last.ckpt"]
    epochs = torch.load(here / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    assert epochs == 1
    assert read(here / "run")["num_images"] > 0


@pytest.mark.slow
def test_four_frames_lead_from_main_to_the_training_step(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(self: WeldClassifier, batch: Batch, batch_idx: int) -> None:
        files = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        stacks.append([name for file, name in files if file.is_relative_to(PACKAGE)])
        raise KeyboardInterrupt

    stacks: list[list[str]] = []
    monkeypatch.setattr(WeldClassifier, "training_step", note)
    assert exit_code("train", *QUICK) == 130
    # And the step itself.
    assert [*stacks[0], "training_step"] == ["main", "run", "train_run", "training_step"]


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_early_stopping_on_request(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUICK, "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=50"]
    call("train", *arguments, "optimizer.lr=1e-9", "test=false")
    assert "epoch 50/50" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_without_a_terminal_lines_say_how_long_it_takes(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    call("train", *QUICK, "data.batch_size=8", "trainer.max_epochs=2", "test=false", "output_dir=run")
    time, total = r"\d+:\d\d:\d\d", r" of (\d+), [\d.]+ images/s, "
    printed = capsys.readouterr().out
    for epoch in (1, 2):
        left = rf"{time} left of epoch {epoch}" + rf", {time} of 2 epochs" * (epoch < 2)
        steps = re.findall(rf"^  step (\d+){total}{left}$", printed, re.MULTILINE)
        # After the last step the line of the epoch follows.
        assert [int(step) for step, _ in steps] == list(range(1, int(steps[0][1])))
    assert re.search(rf"^epoch 1/2  .* s  {time} left$", printed, re.MULTILINE)
    assert re.search(r"^epoch 2/2  .* \d+ s$", printed, re.MULTILINE)
    call("train", "ckpt_path=run", "trainer.max_epochs=4")
    assert re.search(rf"^epoch 3/4  .* s  {time} left$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_users_keep_their_own_configs(here: Path) -> None:
    (here / "mine" / "experiment").mkdir(parents=True)
    (here / "mine" / "experiment" / "ours.yaml").write_text(
        "# @package _global_\ndefaults: [demo]\ndata: {batch_size: 5}\ntrainer: {max_epochs: 1}\n"
    )
    call("train", "--config-dir", "mine", "experiment=ours", *QUICK[1:8], *QUICK[-2:], "trainer=cpu", "test=false")
    assert "batch_size: 5" in (only_run(here) / "config.yaml").read_text()


def test_hostile_and_foreign_checkpoints_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty.ckpt").touch()
    torch.save({"state_dict": {}}, here / "foreign.ckpt")
    torch.save({"weldnet": print}, here / "code.ckpt")
    for name, message in (("empty", "no checkpoint at all"), ("foreign", "not weldnet's"), ("code", "could run code")):
        assert message in refuse(capsys, "test", f"ckpt_path={name}.ckpt")
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_an_interrupted_run_prints_how_to_resume(here: Path, forks: ForkServer) -> None:
    with forks.start(here, "train", *QUICK, "trainer.max_epochs=500", "output_dir=run") as process:
        before = process.wait_for("epoch 2/500")
        process.send_signal(signal.SIGINT)
        done = process.wait()
    assert done.code == 130
    assert "ckpt_path=run" in done.out.removeprefix(before)
    assert "Traceback" not in done.err
    assert (here / "run" / "checkpoints" / "last.ckpt").is_file()
