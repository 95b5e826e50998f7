"""weldnet-crossval through its real main, on drawn welds."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from calling import call, refuse
from fork_server import ForkServer
from lightning import Callback, LightningModule, Trainer
from training_runs import FEW_WELDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

SMALL = [
    "experiment=demo",
    "model=timm",
    "model.backbone=test_resnet",
    "model.zero_init_residual=false",
    "data.num_images=36",
    "data.num_seams=6",
    "data.image_size.height=60",
    "data.image_size.width=12",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "callbacks.dashboard=null",
    "logger.tensorboard=null",
    *FEW_WELDS,
]
THREE = [*SMALL, "num_folds=3"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    # One drawn set for all of these tests.
    monkeypatch.setenv("WELDNET_CACHE", str(cache))
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A cross-validation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WELDNET_CACHE", str(cache))
        call("crossval", *THREE, f"output_dir={folder}")
    return folder


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def without_digests(figures: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint names its own folder, so its digest differs."""
    folds = [{k: v for k, v in fold.items() if k != "checkpoint_digest"} for fold in figures["folds"]]
    return {**figures, "folds": folds}


def assert_equal(run: Path, whole: Path) -> None:
    figures = [without_digests(read(folder / "crossval.json")) for folder in (run, whole)]
    assert figures[0] == figures[1]
    assert (run / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


class PowerCut(Callback):
    """Ends the program in the second epoch of fold 1, once."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fold = trainer.datamodule.rule.fold  # type: ignore[attr-defined]
        if fold == 1 and trainer.current_epoch == 1 and trainer.ckpt_path is None:
            raise ConnectionAbortedError


CUT = "+callbacks.cut._target_=test_crossval.PowerCut"


def test_every_weld_is_held_out_once(whole: Path) -> None:
    figures = read(whole / "crossval.json")
    predictions = pl.read_csv(whole / "predictions.csv")
    assert predictions.columns[:5] == ["path", "label", "group", "fold", "predicted"]
    assert len(predictions) == predictions["path"].n_unique() == 36
    assert predictions.group_by("group").agg(pl.col("fold").n_unique())["fold"].to_list() == [1] * 6
    pooled, folds = figures["pooled"], figures["folds"]
    right = predictions["label"] == predictions["predicted"]
    assert pooled["accuracy"] == pytest.approx(right.mean())
    assert pooled["num_images"] == sum(map(sum, pooled["confusion_matrix"])) == 36
    for (label, guess), rows in predictions.group_by("label", "predicted"):
        row, column = (pooled["classes"].index(name) for name in (label, guess))
        assert pooled["confusion_matrix"][row][column] == len(rows)
    assert pooled["loss"] == pytest.approx(
        np.average([f["loss"] for f in folds], weights=[f["num_images"] for f in folds])
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "loss"):
        values = pl.Series([fold[name] for fold in folds])
        assert figures["mean"][name] == pytest.approx(values.mean())
        assert figures["spread"][name] == pytest.approx(values.std(ddof=1))
    assert [fold["num_groups"] for fold in folds] == [2, 2, 2]
    assert len({fold["split_digest"] for fold in folds}) == 3
    assert (whole / "confusion_matrix.png").is_file()
    assert not list(whole.rglob(".*")), "no temporary file is left"


def test_a_fold_is_an_ordinary_run(whole: Path, here: Path) -> None:
    call("test", f"ckpt_path={whole / 'fold_1'}", "output_dir=test")
    metrics = read(whole / "fold_1" / "metrics.json")
    del metrics["validation"]
    assert read(here / "test" / "metrics.json") == metrics
    call("train", *SMALL, "data.num_folds=3", "data.fold=1", "output_dir=train")
    assert (here / "train" / "predictions.csv").read_bytes() == (whole / "fold_1" / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_after_a_power_cut_it_ends_as_if_nothing_had_been(
    whole: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConnectionAbortedError):
        call("crossval", *THREE, CUT, "output_dir=runs/crossval/cut")
    run = here / "runs" / "crossval" / "cut"
    # Killed within its first epoch, a fold has a folder and no checkpoint.
    (run / "fold_2").mkdir()
    (run / "fold_2" / "train.log").touch()
    first = (run / "fold_0" / "metrics.json").stat().st_mtime_ns
    assert "type it again" in refuse(capsys, "crossval", f"ckpt_path={run}")
    assert "seed would make the folds differ" in refuse(capsys, "crossval", f"ckpt_path={run}", CUT, "seed=1")
    assert "data would make the folds differ" in refuse(capsys, "crossval", "ckpt_path=last", CUT, "data=synthetic")
    assert "leave output_dir out" in refuse(capsys, "crossval", "ckpt_path=last", CUT, "output_dir=other")
    assert f"ckpt_path={run.relative_to(here)}" in refuse(capsys, "crossval", f"ckpt_path={run}/fold_1", CUT)
    call("crossval", "ckpt_path=last", CUT, "data.fold=0")
    assert "fold 0 of runs/crossval/cut is complete" in capsys.readouterr().out
    call("crossval", "ckpt_path=last", CUT, "trainer.devices=1", "data.cache=memory")
    printed = capsys.readouterr().out
    assert (run / "fold_0" / "metrics.json").stat().st_mtime_ns == first, "a finished fold is not trained again"
    assert "fold_1, 2 of 3: resumed" in printed
    assert printed.count("epoch 1/2") == 1, "fold 1 resumes with its second epoch, fold 2 begins"
    assert_equal(run, whole)
    assert "spread" in printed
    call("crossval", "ckpt_path=last", CUT)
    assert "runs/crossval/cut is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_one_fold_at_a_time(whole: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("crossval", *THREE, "data.fold=2", "output_dir=run")
    printed = capsys.readouterr().out
    assert "1 of 3 folds" in printed
    assert "weldnet-crossval ckpt_path=run" in printed.splitlines()[-1]
    assert sorted(path.name for path in (here / "run").iterdir()) == ["config.yaml", "fold_2"]
    message = refuse(capsys, "test", "ckpt_path=run")
    assert f"finish it by weldnet-crossval ckpt_path={here / 'run'}, or name one of its folds" in message
    call("crossval", "ckpt_path=run", "data.fold=0")
    assert "2 of 3 folds" in capsys.readouterr().out
    for fold in ("fold_0", "fold_2"):
        assert (here / "run" / fold / "predictions.csv").read_bytes() == (whole / fold / "predictions.csv").read_bytes()


def test_a_fold_that_was_killed_while_it_was_tested_is_tested_again(
    whole: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("crossval", *THREE, "data.fold=0", "output_dir=run")
    (here / "run" / "fold_0" / "predictions.csv").unlink()
    capsys.readouterr()
    call("crossval", "ckpt_path=run", "data.fold=0")
    assert "epoch" not in capsys.readouterr().out, "it is not trained further"
    name = Path("fold_0", "predictions.csv")
    assert (here / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_other_data_and_damaged_folds_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("crossval", *THREE, "data.fold=0", "output_dir=run", "trainer.max_epochs=1")
    config = here / "run" / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("num_images: 36", "num_images: 42"))
    assert "the data are no longer those of run: fold 0" in refuse(capsys, "crossval", "ckpt_path=run")
    config.write_text(text)
    last = here / "run" / "fold_1" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"half a file")
    assert "To train fold 1 anew, remove run/fold_1" in refuse(capsys, "crossval", "ckpt_path=run")
    (here / "run").rename(here / "moved")
    assert "was created as" in refuse(capsys, "crossval", "ckpt_path=moved")
    assert "no cross-validation at" in refuse(capsys, "crossval", "ckpt_path=moved/fold_0/checkpoints")


def test_a_fold_that_diverges_stops_all(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refuse(
        capsys, "crossval", *THREE, "optimizer.lr=1e6", "scheduler=constant", "optimizer=sgd", "output_dir=run"
    )
    assert "diverged" in error
    assert sorted(path.name for path in (here / "run").glob("fold_*")) == ["fold_0"]


def test_splits_of_the_source_are_ignored_aloud(whole: Path, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ["data=manifest", f"data.manifest={whole / 'fold_0' / 'split.csv'}"]
    small = [word for word in SMALL if not word.startswith("data.num_")]
    call("crossval", *small, *data, "num_folds=3", "data.fold=0", "output_dir=run")
    assert "own splits are ignored" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["num_folds=1"], "num_folds=1: allowed are"),
        (["num_folds=many"], "num_folds=many"),
        (["num_fold=3"], "did you mean 'num_folds'"),
        (["num_folds=7"], "6 groups with 36 images are too few for 7 folds"),
        (["num_folds=3", "data.fold=3"], "data.fold=3: allowed are 0 to 2"),
        (["data.num_folds=3"], "type num_folds=3"),
        (["test=false"], "leave test=false out"),
        (["trainer.fast_dev_run=true"], "weldnet-train data.num_folds=5 data.fold=0"),
        (["trainer.devices=2"], "one process; take trainer.devices=1"),
        (["optimizer.lrr=1"], "did you mean 'optimizer.lr'"),
        (["model.weights=none", "optimizer.lr=-1"], "optimizer.lr=-1: allowed are"),
        (["num_folds=2", "model.weights=nonesuch"], "nonesuch: allowed are"),
        (["~trainer.precision"], "~trainer.precision: a key cannot be removed"),
        (["~trainer.max_epochs"], "trainer.max_epochs is not given"),
        (["ckpt_path=last"], "no cross-validation below"),
        (["ckpt_path=nowhere"], "no cross-validation at"),
    ],
)
def test_a_mistake_is_reported_before_any_training(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refuse(capsys, "crossval", *SMALL, *arguments)
    assert not list(here.iterdir()), "a refused command leaves nothing behind"


def test_one_process_only(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert "runs in one process" in refuse(capsys, "crossval", *THREE)


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(here: Path, forks: ForkServer) -> None:
    arguments = [*THREE, "trainer.max_epochs=500", "output_dir=run", "data.fold=1"]
    with forks.start(here, "crossval", *arguments) as process:
        process.wait_for("epoch 2/500")
        process.send_signal(signal.SIGINT)
        done = process.wait()
    assert done.code == 130
    assert (done.out + done.err).count("weldnet-crossval ckpt_path=run data.fold=1") == 1
    assert "Traceback" not in done.err
    assert (here / "run" / "fold_1" / "checkpoints" / "last.ckpt").is_file()


def test_help_costs_no_torch() -> None:
    code = "import sys\nfrom weldnet.commands.crossval import main\nmain()\nassert 'torch' not in sys.modules"
    for argument in ("--help", "--cfg=job"):
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "num_folds: 5" in done.stdout
