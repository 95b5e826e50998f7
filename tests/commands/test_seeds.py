"""weldnet-train seeds=N through its real main: ordinary runs on the same data, and their spread."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import call, exit_code, refuse
from drawing import write_welds
from lightning import Callback, LightningModule, Trainer
from trained import CLASSES, QUIET

from weldnet.evaluation.metrics import METRICS

pytestmark = pytest.mark.usefixtures("undrawn")

RUN = [*QUIET, "trainer.max_epochs=2", "seed=3", "seeds=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with welds, their cache, and two seeds that nothing interrupted in `whole`."""
    folder = tmp_path_factory.mktemp("seeds")
    write_welds(folder / "welds", CLASSES, seams=range(20), shots=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WELDNET_CACHE", str(folder / "cache"))
        call("train", *RUN, "output_dir=whole")
    return folder


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    if "home" in request.fixturenames:
        home: Path = request.getfixturevalue("home")
        monkeypatch.setenv("WELDNET_CACHE", str(home / "cache"))
        (tmp_path / "welds").symlink_to(home / "welds")
    else:
        write_welds(tmp_path / "welds", CLASSES, seams=range(8), shots=1)
    return tmp_path


def read(file: Path) -> Any:
    return json.loads(file.read_text())


class Stop(Callback):
    """Ends the program in the second epoch of seed 4, once: by a power cut, or by Ctrl-C."""

    def __init__(self, error: str) -> None:
        self.error = error

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed = trainer.datamodule.seed  # type: ignore[attr-defined]
        if (seed, trainer.current_epoch, trainer.ckpt_path) == (4, 1, None):
            raise ConnectionAbortedError if self.error == "power" else KeyboardInterrupt


STOP = "+callbacks.stop._target_=test_seeds.Stop"


@pytest.mark.slow
def test_the_seeds_differ_on_the_same_data(home: Path) -> None:
    whole = home / "whole"
    assert sorted(path.name for path in whole.iterdir()) == ["config.yaml", "seed_3", "seed_4", "seeds.json"]
    figures, runs = read(whole / "seeds.json"), [read(whole / f"seed_{seed}" / "metrics.json") for seed in (3, 4)]
    assert [row["seed"] for row in figures["seeds"]] == [3, 4]
    assert runs[0]["split_digest"] == runs[1]["split_digest"]
    splits = [(whole / f"seed_{seed}" / "split.csv").read_bytes() for seed in (3, 4)]
    assert splits[0] == splits[1]
    weights = [
        torch.load(whole / f"seed_{seed}" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for seed in (3, 4)
    ]
    assert not torch.equal(weights[0]["network.head.weight"], weights[1]["network.head.weight"])
    for metric in METRICS:
        for found, each in ((figures, runs), (figures["validation"], [run["validation"] for run in runs])):
            values = [run[metric.key] for run in each]
            assert found["mean"][metric.key] == pytest.approx(np.mean(values))
            assert found["spread"][metric.key] == pytest.approx(np.std(values, ddof=1))
    assert not list(whole.rglob(".*")), "no temporary file is left"


@pytest.mark.slow
def test_a_seed_is_an_ordinary_run(home: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = home / "whole" / "seed_4"
    alone = ["trainer.max_epochs=2", "seed=4", "data.seed=3", f"data.root={home / 'welds'}", "output_dir=single"]
    call("train", *QUIET, *alone)
    assert (here / "single" / "predictions.csv").read_bytes() == (seed / "predictions.csv").read_bytes()
    call("test", f"ckpt_path={seed}", "output_dir=tested")
    metrics = read(seed / "metrics.json")
    del metrics["validation"]
    assert read(here / "tested" / "metrics.json") == metrics
    call("predict", f"ckpt_path={seed}", "source=welds/good", "output_dir=predicted")
    assert len((here / "predicted" / "predictions.csv").read_text().splitlines()) == 41
    message = refuse(capsys, "test", f"ckpt_path={home / 'whole'}")
    assert f"name one of its seeds: ckpt_path={home / 'whole' / 'seed_3'}" in message


@pytest.mark.slow
@pytest.mark.parametrize("error", ["power", "ctrl-c"])
def test_stopped_seeds_end_as_if_nothing_had_been(
    home: Path, here: Path, capsys: pytest.CaptureFixture[str], error: str
) -> None:
    stop = [STOP, f"+callbacks.stop.error={error}"]
    if error == "power":
        with pytest.raises(ConnectionAbortedError):
            call("train", *RUN, *stop, "output_dir=run")
    else:
        assert exit_code("train", *RUN, *stop, "output_dir=run") == 130
        assert "weldnet-train ckpt_path=run" in capsys.readouterr().out
    first = (here / "run" / "seed_3" / "metrics.json").stat().st_mtime_ns
    assert "type it again" in refuse(capsys, "train", "ckpt_path=run")
    for typed in ("optimizer.lr=1", "trainer.max_epochs=9", "seed=1", "data.seed=1", "test=false"):
        assert f"{typed.partition('=')[0]} would make the seeds differ" in refuse(
            capsys, "train", "ckpt_path=run", *stop, typed
        )
    assert "data would make the seeds differ" in refuse(capsys, "train", "ckpt_path=run", *stop, "data=folder")
    assert "leave output_dir out" in refuse(capsys, "train", "ckpt_path=run", *stop, "output_dir=other")
    assert "has 2 already; type a larger number" in refuse(capsys, "train", "ckpt_path=run", *stop, "seeds=1")
    call("train", "ckpt_path=run", STOP, "data.cache=memory")
    printed = capsys.readouterr().out
    assert (here / "run" / "seed_3" / "metrics.json").stat().st_mtime_ns == first, "a finished seed stays"
    assert "seed_4, 2 of 2: resumed" in printed
    assert "epoch 1/2" not in printed
    assert "seed_4: " in printed
    assert "test: 2 of 2 seeds" in printed
    assert "run/seeds.json" in printed
    figures = [read(folder / "seeds.json") for folder in (here / "run", home / "whole")]
    assert figures[0] == figures[1]
    call("train", "ckpt_path=run", STOP)
    assert "run is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_more_seeds_are_added_on_resume(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [*QUIET, "trainer.max_epochs=1", "test=false"]
    call("train", *one, "seeds=2", "output_dir=run")
    before = read(here / "run" / "seeds.json")
    assert before["split"] == "val"
    assert before["validation"] is None
    capsys.readouterr()
    call("train", "ckpt_path=run", "seeds=3")
    assert capsys.readouterr().out.count("epoch 1/1") == 1
    after = read(here / "run" / "seeds.json")
    assert after["num_seeds"] == 3
    assert after["seeds"][:2] == before["seeds"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["seeds=1"], "allowed are whole numbers from 2 to 100"),
        (["seeds=many"], "seeds=many"),
        (["seeds=2", "trainer.fast_dev_run=true"], "try it without seeds"),
        (["seeds=2", "trainer.devices=2"], "one process; take trainer.devices=1"),
        (["seeds=2", "optimizer.lr=-1"], "optimizer.lr=-1: allowed are"),
    ],
)
def test_a_mistake_is_reported_before_any_training(
    here: Path, typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refuse(capsys, "train", *QUIET, *typed, "output_dir=run")
    assert not (here / "run").exists()


def test_folds_have_no_seeds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such key: seeds" in refuse(capsys, "crossval", *QUIET, "seeds=2")


def test_one_process_only(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert "a run of several seeds runs in one process" in refuse(capsys, "train", *QUIET, "seeds=2")
