"""Manifests whose split or group column holds little: one clear message, or it works."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import polars as pl
import pytest
from calling import exit_code, refuse
from drawing import write_welds
from omegaconf import OmegaConf
from stopped import compose, write_stopped
from trained import CLASSES

from weldnet.config.build import build_data
from weldnet.config.schema import DataConfig
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.settings import ImageSettings
from weldnet.data.sources.source import Manifest
from weldnet.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")

SEAMS = range(40, 46)
SMALL = [
    "model=timm",
    "model.backbone=test_resnet",
    "model.weights=none",
    "data.image_size.height=32",
    "data.image_size.width=16",
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "callbacks.dashboard=null",
    "logger.tensorboard=null",
]

OWN = "{label}{seam}"
"""A group for each seam and class."""

Split = Callable[[str, int], str]
"""The split of an image by its label and its seam."""


def repeat(*splits: str) -> Split:
    return lambda label, seam: splits[seam % len(splits)]


def put_pores(split: str) -> Split:
    return lambda label, seam: split if label == "pore" else repeat("train", "val", "test")(label, seam)


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", CLASSES, seams=SEAMS)
    return here


def write_manifest(split: Split | None, rows: int = 99, group: str | None = OWN) -> list[str]:
    """Writes the first rows of all images as a manifest; returns how it is typed."""
    table = [
        {"path": f"welds/{label}/seam{seam}_{shot}.jpg", "label": label}
        | ({} if group is None else {"group": group.format(label=label, seam=seam)})
        | ({} if split is None else {"split": split(label, seam)})
        for seam in SEAMS
        for shot in range(2)
        for label in reversed(CLASSES)
    ]
    pl.DataFrame(table[:rows]).write_csv("welds.csv")
    return ["data=manifest", "data.manifest=welds.csv"]


REFUSED: dict[str, tuple[Split | None, int, str | None, str]] = {
    "all test": (repeat("test"), 99, OWN, "no image in train, only in test"),
    "all test, no groups": (repeat("test"), 99, None, "no image in train, only in test"),
    "all val": (repeat("val"), 99, OWN, "no image in train, only in val"),
    "val and test": (repeat("val", "test"), 99, OWN, "no image in train, only in val and test"),
    "all train, no groups": (repeat("train"), 99, None, "has no val split, and it is unknown"),
    "all train, one group": (repeat("train"), 99, "g", "no image in val"),
    "no splits, one group": (None, 99, "g", "no image in val"),
    "one group in all": (repeat("train", "val", "test"), 99, "g", "1 group in test also in"),
    "one row of train": (repeat("train"), 1, OWN, "one class only (pore)"),
    "one row of val": (repeat("val"), 1, OWN, "one class only (pore)"),
    "one row of test": (repeat("test"), 1, OWN, "one class only (pore)"),
    "one row": (None, 1, OWN, "one class only (pore)"),
    "two rows of test": (repeat("test"), 2, OWN, "no image in train, only in test"),
    "two rows of train": (repeat("train"), 2, OWN, "no image in val"),
    "pores in test only": (put_pores("test"), 99, OWN, "pore: in test but not in train"),
    "pores in val only": (put_pores("val"), 99, OWN, "pore: in val but not in train"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_is_refused(here: Path, case: str) -> None:
    split, rows, group, words = REFUSED[case]
    write_manifest(split, rows, group)
    with pytest.raises(InputError, match=re.escape(words)):
        WeldDataModule(Manifest(manifest="welds.csv"), image_settings=ImageSettings(cache="none"), seed=0).setup()


ADVISED: dict[str, tuple[Split | None, int, str | None, list[str], list[str]]] = {
    "two welds": (None, 8, OWN, [], ["data.val=known"]),
    "two welds in train": (repeat("train", "test", "test"), 99, OWN, [], ["data.val=known"]),
    "one photograph a weld": (repeat("train"), 2, OWN, [], []),
    "one weld": (repeat("train"), 99, "g", [], ["data.val=known"]),
    "no share": (None, 99, OWN, ["shares.val=0", "shares.train=0.85"], ["data.shares.val=0.15 data.shares.train=0.7"]),
    "hardly a share": (
        None,
        99,
        OWN,
        ["shares.val=0", "shares.train=0.2", "shares.test=0.8"],
        ["data.shares.val=0.1 data.shares.train=0.1"],
    ),
    "no groups": (None, 99, None, [], [f"data.group_by={way}" for way in ("prefix:1", "prefix:2", "per_image")]),
    "val cannot be read": (repeat("train", "val"), 99, OWN, ["on_unreadable=skip"], []),
}
"""What is typed below `data`, and each way out that the refusal proposes."""


def set_up(*typed: str) -> None:
    """Sets up `welds.csv`, or a different manifest, under keys below `data`."""
    keys = ["_target_=weldnet.data.sources.source.Manifest", "manifest=welds.csv", "cache=none", *typed]
    cfg: Any = OmegaConf.merge(DataConfig, OmegaConf.from_dotlist(keys))
    build_data(cfg, seed=0).setup()


def find_ways(*typed: str) -> list[str]:
    """What the refusal of `set_up` proposes to type."""
    with pytest.raises(InputError) as refused:
        set_up(*typed)
    value = r"data\.[a-z_.]+=[a-z\d_.]+(?::\d)?"
    return [way for way in re.findall(f"{value}(?: {value})*", str(refused.value)) if "allow_leak" not in way]


@pytest.mark.parametrize("case", ADVISED)
def test_each_way_out_that_a_refusal_proposes_is_one(here: Path, case: str) -> None:
    split, rows, group, typed, ways = ADVISED[case]
    write_manifest(split, rows, group)
    if case == "val cannot be read":
        for seam in SEAMS[1::2]:
            for file in here.glob(f"welds/*/seam{seam}_*"):
                file.write_bytes(b"")

    assert find_ways(*typed) == ways
    for way in ways:
        set_up(*typed, *(word.removeprefix("data.") for word in way.split()))


def test_the_way_out_of_copies_in_two_splits(here: Path) -> None:
    """Where no weld is known, a split needs to know them first."""
    typed = write_manifest(repeat("train", "val", "test"), group=None)
    shutil.copy(here / "welds" / "pore" / "seam40_0.jpg", here / "welds" / "pore" / "seam41_0.jpg")
    way, *_ = find_ways()
    split = ["audit", *typed, "audit.suggest_split=split.csv"]
    assert (exit_code(*split), (here / "split.csv").exists()) == (2, False)
    assert (exit_code(*split, way), (here / "split.csv").exists()) == (1, True)
    set_up("manifest=split.csv")


COMMON = ["all test", "all train, one group", "one row", "pores in test only"]
"""What people do have."""


@pytest.mark.parametrize("case", COMMON)
def test_training_refuses_what_cannot_be_learned(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    split, rows, group, words = REFUSED[case]
    message = refuse(capsys, "train", *write_manifest(split, rows, group), *SMALL)
    assert words in message
    assert not (here / "runs").exists()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights can be downloaded, and no image is decoded."""

    def unplug(*_: object, **__: object) -> None:
        raise URLError("unplugged")

    monkeypatch.setattr("torch.hub.urlopen", unplug)
    monkeypatch.setattr("urllib.request.urlopen", unplug)
    monkeypatch.delattr("weldnet.data.datamodule.decode_images")


NO_VAL = "no image in val"
SWEEP = ["sweep", "sweep.space.optimizer.lr={low:1e-4,high:1e-3}"]


@pytest.mark.parametrize(
    ("command", "split", "group", "lacks"),
    [
        (["train"], repeat("train", "val", "test"), OWN, ""),
        (["train"], repeat("train"), "g", NO_VAL),
        (["train", "seeds=2"], repeat("train"), "g", NO_VAL),
        (SWEEP, repeat("train"), "g", NO_VAL),
        (["crossval", "num_folds=2"], None, OWN, ""),
        (["crossval", "num_folds=2"], None, "g", "all images in one group"),
    ],
)
def test_missing_weights_are_refused_at_once_and_with_the_splits(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    without: None,
    command: list[str],
    split: Split | None,
    group: str,
    lacks: str,
) -> None:
    message = refuse(capsys, *command, *write_manifest(split, group=group), "model=resnet18", "trainer=cpu")
    assert "weights of model.weights=" in message
    assert "experiment=scratch" in message
    assert lacks in message
    assert ("\nAnd the weights" in message) == bool(lacks)


def test_a_run_that_stopped_in_its_first_epoch_still_needs_them(
    here: Path, capsys: pytest.CaptureFixture[str], without: None
) -> None:
    own = write_manifest(repeat("train", "val", "test"))
    folder = write_stopped(here / "run", compose("train", here / "run", *own, "model.weights=default"))
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert "weights of model.weights=" in refuse(capsys, "train", "ckpt_path=run")


WORKS = {
    "all train": (repeat("train"), OWN),
    "train and val": (repeat("train", "val"), OWN),
    "train and test": (repeat("train", "test"), OWN),
    "train and val, no groups": (repeat("train", "val"), None),
    "train and val, one group": (repeat("train", "val"), "g"),
    "pores in train only": (put_pores("train"), OWN),
    "empty": (repeat(""), OWN),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WORKS)
def test_training_works_with_what_can(here: Path, case: str) -> None:
    split, group = WORKS[case]
    assert exit_code("train", *write_manifest(split, group=group), *SMALL, "output_dir=run") == 0
    assert (here / "run" / "report.html").is_file()
    # That validation knows a weld is a warning of the data, not an advice on each weld besides.
    findings = json.loads((here / "run" / "report.json").read_text())["audit"]
    assert "group_leak" not in {finding["kind"] for finding in findings}


@pytest.mark.parametrize("case", COMMON)
def test_the_audit_reads_all_of_them(here: Path, case: str) -> None:
    split, rows, group, _ = REFUSED[case]
    assert exit_code("audit", *write_manifest(split, rows, group), "output_dir=audit") in (0, 1)
    assert (here / "audit" / "audit.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 99])
@pytest.mark.parametrize("splits", [("train",), ("val",), ("test",), ("val", "test"), ("",)], ids=",".join)
def test_a_checkpoint_is_tested_on_them(
    here: Path, small: Path, capsys: pytest.CaptureFixture[str], splits: tuple[str, ...], rows: int
) -> None:
    typed = [f"ckpt_path={small / 'run'}", *write_manifest(repeat(*splits), rows), "output_dir=test"]
    there = {split or "test" for split in (splits if rows > 1 else splits[:1])}
    if "test" in there:
        assert exit_code("test", *typed) == 0
        assert (here / "test" / "metrics.json").is_file()
    else:
        assert f"no image in split=test; there are images in {', '.join(sorted(there))}" in refuse(
            capsys, "test", *typed
        )
        assert not (here / "test").exists()


@pytest.mark.parametrize(
    ("rows", "group", "words"),
    [
        (99, None, "data.num_folds holds out whole groups, and it is unknown"),
        (99, "g", "good, pore: all images in one group"),
        (1, "g", "one class only (pore)"),
        (2, "{label}", "good, pore: all images in one group"),
    ],
)
def test_cross_validation_refuses_too_few_groups(
    here: Path, capsys: pytest.CaptureFixture[str], rows: int, group: str | None, words: str
) -> None:
    typed = write_manifest(repeat("test"), rows, group)
    assert words in refuse(capsys, "crossval", "num_folds=2", *typed, *SMALL)


@pytest.mark.slow
def test_cross_validation_passes_over_the_column(here: Path) -> None:
    assert exit_code("crossval", "num_folds=2", *write_manifest(repeat("test")), *SMALL, "output_dir=run") == 0
