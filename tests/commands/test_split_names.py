"""Folders and columns that hold splits, whatever people call them; and what is neither split nor class."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call, exit_code, refuse
from drawing import SEAM, write_welds

from weldnet.data.sources.folders import scan_folder
from weldnet.data.sources.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("undrawn")

CLASSES = ("crack", "good")
SEAMS = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}
SMALL = [
    "data=folder",
    "data.root=welds",
    f"data.group_pattern={SEAM}",
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


def audit(*typed: str) -> tuple[int, dict[str, Any]]:
    """The exit code of weldnet-audit and what it found."""
    code = exit_code("audit", *typed, "output_dir=audit")
    summary: dict[str, Any] = json.loads(Path("audit/audit.json").read_text())
    return code, summary


def find_kinds(summary: dict[str, Any]) -> set[tuple[str, str]]:
    return {(found["kind"], found["severity"]) for found in summary["findings"]}


NAMES = [
    ("train", "val", "test"),
    ("Training", "Validation", "Testing"),
    ("TRAIN", "VALID", "TEST"),
    ("trn", "dev", "tst"),
    ("train_set", "val_set", "test_set"),
    ("trainset", "valset", "testset"),
    ("01_train", "02_val", "03_test"),
    ("1. Train", "2. Valid", "3. Test"),
    ("Train-Images", "Val-Images", "Test-Images"),
    ("images_train", "images_val", "images_test"),
    ("Training", "Validierung", "Test"),
    ("Trainingsdaten", "Validierungsdaten", "Testdaten"),
    ("training", "eval", "holdout"),
    ("train data", "evaluation", "Test (data)"),
]


def write_split_folders(here: Path, names: tuple[str, ...]) -> None:
    for name, seams in zip(names, SEAMS.values(), strict=True):
        write_welds(here / "welds" / name, CLASSES, seams=seams, shots=1)


def write_split_column(here: Path, names: tuple[str, ...]) -> None:
    write_welds(here / "welds", CLASSES, seams=range(8), shots=1)
    rows = [
        {"path": f"welds/{label}/seam{seam}_0.jpg", "label": label, "group": seam, "split": name}
        for name, seams in zip(names, SEAMS.values(), strict=True)
        for seam in seams
        for label in CLASSES
    ]
    pl.DataFrame(rows).write_csv("welds.csv")


def count_splits(table: pl.DataFrame) -> dict[str, int]:
    return dict(table["split"].value_counts().iter_rows())


@pytest.mark.parametrize("names", NAMES, ids=",".join)
def test_folders_of_splits(here: Path, names: tuple[str, ...]) -> None:
    write_split_folders(here, names)
    table = scan_folder(here / "welds")
    assert set(table["label"]) == set(CLASSES)
    assert count_splits(table) == {"train": 8, "val": 4, "test": 4}


@pytest.mark.parametrize("names", NAMES, ids=",".join)
def test_a_column_of_splits(here: Path, names: tuple[str, ...]) -> None:
    write_split_column(here, names)
    assert count_splits(read_manifest("welds.csv")) == {"train": 8, "val": 4, "test": 4}


@pytest.mark.parametrize("names", NAMES[1:8:3], ids=",".join)
def test_the_audit_takes_them_for_splits(here: Path, names: tuple[str, ...]) -> None:
    write_split_folders(here, names)
    _, summary = audit("data.root=welds", f"data.group_pattern={SEAM}")
    assert summary["classes"] == list(CLASSES)
    assert summary["splits"] == {"train": 8, "val": 4, "test": 4}
    write_split_column(here, names)
    _, summary = audit("data=manifest", "data.manifest=welds.csv")
    assert summary["splits"] == {"train": 8, "val": 4, "test": 4}


@pytest.mark.slow
def test_training_and_testing_are_no_classes(here: Path) -> None:
    for name, seams in (("Training", range(6)), ("Testing", range(6, 8))):
        write_welds(here / "welds" / name, CLASSES, seams=seams)
    call("train", *SMALL, "output_dir=run")
    metrics = json.loads((here / "run" / "metrics.json").read_text())
    assert metrics["classes"] == list(CLASSES)
    assert metrics["num_images"] == 8


SPLITS_ABOVE = "folders of splits below those of classes"
NO_CLASSES: dict[str, tuple[list[str], str]] = {
    "trainA, trainB": (["trainA", "trainB", "testA", "testB"], "trainA"),
    "split and class in one name": (["train_good", "train_crack", "test_good", "test_crack"], "train_good"),
    "class and split in one name": (["good (train)", "crack (train)"], "good (train)"),
    "test beside a class": (["Testing", "good"], "Testing"),
    "holdout beside classes": (["crack", "good", "hold-out"], "hold-out"),
    "the reverse": (["good/train", "good/test", "crack/train", "crack/test"], SPLITS_ABOVE),
    "the reverse, in words": (["good/Training", "crack/Testing", "crack/Training"], SPLITS_ABOVE),
    "the reverse, without train": (["good/val", "good/test", "crack/val"], SPLITS_ABOVE),
    "one folder too high": (["photos/train/good", "photos/test/crack"], "type data.root="),
    "below splits": (["train/good/train", "train/good/test", "train/crack", "val/crack"], SPLITS_ABOVE),
}


@pytest.mark.parametrize("case", NO_CLASSES)
def test_what_is_no_class_is_refused(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    folders, words = NO_CLASSES[case]
    for number, folder in enumerate(folders):
        path = here / "welds" / folder
        write_welds(path.parent, (path.name,), seams=range(2 * number, 2 * number + 2), shots=1)
    message = refuse(capsys, "train", *SMALL)
    assert words in message
    assert str(here / "welds") in message
    assert not (here / "runs").exists()
    code, summary = audit("data.root=welds", f"data.group_pattern={SEAM}")
    assert code == 1
    assert ("split_names", "error") in find_kinds(summary)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["train", "test", "crack"], "beside them crack"),
        (["train", "training", "test"], "train and training are all train"),
        (["train_1", "train_2"], "train_1 and train_2 are all train"),
        (["train", "val", "eval"], "eval and val would all be taken for val"),
    ],
)
def test_splits_that_are_not_clear(
    here: Path, capsys: pytest.CaptureFixture[str], folders: list[str], words: str
) -> None:
    for folder in folders:
        write_welds(here / "welds" / folder, CLASSES, seams=range(1))
    for command in ("train", "audit"):
        assert words in refuse(capsys, command, "data=folder", "data.root=welds")


@pytest.mark.parametrize(
    "classes",
    [
        ("leak_test_ok", "leak_test_fail"),
        ("valid", "invalid"),
        ("crack", "contest"),
        ("strain", "latest"),
        ("TR", "LO"),
    ],
)
def test_classes_that_only_sound_like_splits(here: Path, classes: tuple[str, ...]) -> None:
    write_welds(here / "welds", classes, seams=range(8))
    # A test piece is a weld.
    piece = here / "welds" / classes[0] / "Test_01"
    piece.mkdir()
    shutil.move(here / "welds" / classes[0] / "seam0_0.jpg", piece)
    code, summary = audit("data.root=welds", f"data.group_pattern={SEAM}")
    assert (code, summary["classes"], summary["splits"]) == (0, sorted(classes), {})


def test_labels_that_are_splits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_welds(here / "welds", CLASSES, seams=range(8))
    rows = [f"welds/{label}/seam{seam}_0.jpg,{'train' if seam else 'test'}" for label in CLASSES for seam in range(8)]
    Path("welds.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    message = refuse(capsys, "train", "data=manifest", "data.manifest=welds.csv", "data.groups=per_image")
    assert "'test', first in row 2: " in message
    assert "path,label,split" in message
