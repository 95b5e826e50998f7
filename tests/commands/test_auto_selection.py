"""callbacks=auto: what chooses the epoch follows from the welds in validation, and is recorded with its reason."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from boards import read_scalars
from calling import call
from checking import check_training
from drawing import write_welds
from omegaconf import DictConfig, OmegaConf
from stopped import compose
from trained import CLASSES, TINY

from weldnet.config.build import build_data
from weldnet.config.callbacks import BY_VALIDATION, describe_selection, resolve_monitor
from weldnet.data.splits.leaks import validation_groups
from weldnet.errors import InputError
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.evaluate import evaluate
from weldnet.inference.finished_runs import kept_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

BY_GROUP = "val/balanced_accuracy_by_group"
FOLDER_KEYS = ("data=", "data.root", "data.group_pattern")
AUTO = [*(word for word in TINY if not word.startswith(FOLDER_KEYS)), "callbacks=auto", "data=manifest"]
KEPT = {"unseen": "best", "known": "last"}


def write_list(folder: Path, validation: str) -> None:
    """Writes a manifest of the welds, whose validation holds `known` or `unseen` ones."""
    rows = []
    for path in sorted((folder / "welds").rglob("*.jpg")):
        seam, shot = map(int, path.stem.removeprefix("seam").split("_"))
        validates = seam % 4 == 2 if validation == "unseen" else shot == 1
        split = "test" if seam % 4 == 3 else "val" if validates else "train"
        rows.append((str(path), path.parent.name, f"S{seam}", split))
    table = pl.DataFrame(rows, ["path", "label", "group", "split"], orient="row")
    assert validation_groups(table) == validation
    table.write_csv(folder / f"{validation}.csv")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with welds, their manifests and a cache for all of these tests."""
    folder = tmp_path_factory.mktemp("auto")
    write_welds(folder / "welds", CLASSES, seams=range(20), shots=2)
    for validation in KEPT:
        write_list(folder, validation)
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WELDNET_CACHE", str(home / "cache"))
    (tmp_path / "welds").symlink_to(home / "welds")
    return tmp_path


def make_config(folder: Path, *typed: str) -> DictConfig:
    cfg = OmegaConf.create(compose("train", folder, *typed))
    assert isinstance(cfg, DictConfig)
    return cfg


@pytest.mark.parametrize(
    ("validation", "monitor", "sentence"),
    [
        ("unseen", BY_GROUP, f"the epoch with the highest {BY_GROUP}, a moving average of the weights, because "),
        ("per_image", "val/balanced_accuracy", "the epoch with the highest val/balanced_accuracy, a moving average"),
        (
            "known",
            None,
            "the last epoch, a moving average of the weights, because validation holds welds that training",
        ),
        ("unknown", None, "the last epoch, a moving average of the weights, because it is unknown"),
    ],
)
def test_what_chooses_the_epoch_follows_from_validation(
    tmp_path: Path, validation: str, monitor: str | None, sentence: str
) -> None:
    cfg = make_config(tmp_path, "callbacks=auto")
    assert cfg.callbacks.best.monitor == "auto"
    assert resolve_monitor(cfg, validation)
    assert (cfg.callbacks.best or {}).get("monitor") == monitor
    found = describe_selection(cfg, validation)
    assert found.startswith(f"the run kept {sentence}")
    assert found.endswith(BY_VALIDATION[validation][1])
    assert not resolve_monitor(cfg, validation), "it is resolved once"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("callbacks=default", "the run kept the epoch with the highest val/balanced_accuracy, as its config asks"),
        ("callbacks=keep_last", "the run kept the last epoch, as its config asks"),
        (
            "callbacks=averaging callbacks.best.monitor=val/loss",
            "the run kept the epoch with the lowest val/loss, a moving average of the weights, as its config asks",
        ),
    ],
)
def test_what_the_config_names_stays(tmp_path: Path, typed: str, sentence: str) -> None:
    cfg = make_config(tmp_path, *typed.split())
    before = cfg.copy()
    for validation in BY_VALIDATION:
        assert not resolve_monitor(cfg, validation)
        assert describe_selection(cfg, validation) == sentence
    assert cfg == before


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("callbacks=auto callbacks.best.mode=min", "callbacks.best.mode follows from the monitor"),
        ("callbacks=auto callbacks.last=null", "which callbacks.last writes"),
        ("callbacks=early_stopping callbacks.early_stopping.monitor=auto", "only callbacks.best.monitor takes auto"),
    ],
)
def test_auto_that_could_not_be_kept_is_refused(here: Path, typed: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_training(here / "run", *typed.split())


def load(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def measure_kept(run: Path) -> float:
    """The kept checkpoint's mean over the welds that choose the epoch."""
    checkpoint = load_checkpoint(kept_checkpoint(run))
    cfg: Any = OmegaConf.create(checkpoint.card.config)
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    return float(evaluate(checkpoint, data, "select", "cpu").metrics()["balanced_accuracy_by_group"])


@pytest.mark.slow
@pytest.mark.parametrize("validation", KEPT)
def test_the_kept_checkpoint_is_the_average_that_was_measured(
    home: Path, here: Path, validation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call("train", *AUTO, f"data.manifest={home / validation}.csv", "optimizer.lr=1e-2", "output_dir=run")
    run, kept = here / "run", KEPT[validation]
    assert kept_checkpoint(run).stem == kept
    logged = read_scalars(run, BY_GROUP)
    assert len(logged) == 3
    chosen = max(logged) if kept == "best" else logged[-1]
    assert measure_kept(run) == pytest.approx(chosen)
    content = load(run, "last")
    weight = "network.head.weight"
    assert not torch.equal(content["state_dict"][weight], content["current_model_state"][weight])
    if kept == "best" and logged.index(chosen) == len(logged) - 1:
        assert torch.equal(load(run, "best")["state_dict"][weight], content["state_dict"][weight])
    # What it stands for is recorded in the config, and which and why in the metrics, on the page and at the end.
    best = OmegaConf.load(run / "config.yaml").callbacks.best
    assert (best and best.monitor) == BY_VALIDATION[validation][0]
    sentence = json.loads((run / "metrics.json").read_text())["selection"]
    assert sentence.endswith(BY_VALIDATION[validation][1])
    shown = f"{sentence[0].upper()}{sentence[1:]}."
    assert shown in capsys.readouterr().out
    assert shown in (run / "report.html").read_text()
    call("test", f"ckpt_path={run}", "output_dir=tested")
    assert json.loads((here / "tested" / "metrics.json").read_text())["selection"] == sentence


@pytest.mark.slow
@pytest.mark.parametrize("validation", KEPT)
def test_a_resumed_run_equals_an_uninterrupted_one(home: Path, here: Path, validation: str) -> None:
    stop = "+callbacks.stop._target_=training_runs.StopAfterFirstEpoch"
    settings = [*AUTO, f"data.manifest={home / validation}.csv", "data.mixup=0.2"]
    call("train", *settings, "output_dir=whole")
    with pytest.raises(ConnectionAbortedError):
        call("train", *settings, "output_dir=stopped", stop)
    call("train", "ckpt_path=stopped", stop)
    whole, resumed = (load(here / run, "last") for run in ("whole", "stopped"))
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert whole[key].keys() == resumed[key].keys()
        assert all(torch.equal(value, resumed[key][part]) for part, value in whole[key].items()), key
    figures = [json.loads((here / run / "metrics.json").read_text()) for run in ("whole", "stopped")]
    for each in figures:
        # A checkpoint names its own folder.
        del each["checkpoint_digest"], each["validation"]["checkpoint_digest"]
    assert figures[0] == figures[1]
