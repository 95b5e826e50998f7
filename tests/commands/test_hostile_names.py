"""Whatever a photograph is called, it is one row of every table."""

import csv
import os
from pathlib import Path

import polars as pl
import pytest
from calling import call
from drawing import draw_noise, save_image, write_welds
from test_files import HOSTILE_NAMES
from trained import DECISION, TINY
from untrained import save_untrained

pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = [f"seam{number}_0{name}.png" for number, name in enumerate(HOSTILE_NAMES)]


def read_paths(file: Path) -> list[str]:
    """The column `path`, read by Python's csv, and seen alike by polars."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    paths = [row["path"] for row in rows]
    assert all(None not in row and None not in row.values() for row in rows), "every row has every column"
    assert pl.read_csv(file)["path"].to_list() == paths
    return paths


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", ("good", 'po"re, x'), seams=range(len(NAMES)), shots=1, ending="png")
    for number, name in enumerate(NAMES):
        os.rename(f"welds/good/seam{number}_0.png", f"welds/good/{name}")
    return here


def names(paths: list[str]) -> set[str]:
    return {os.path.basename(path) for path in paths}


def test_predictions(here: Path) -> None:
    save_untrained(here / "a.ckpt", ("good", 'po"re, x'), backbone="test_resnet")
    call("predict", "ckpt_path=a.ckpt", "source=welds", "output_dir=out")
    # Written anew, row by row, from the record.
    call("predict", "ckpt_path=a.ckpt", "source=welds", "output_dir=out", "resume=true")
    paths = read_paths(here / "out" / "predictions.csv")
    assert len(paths) == 2 * len(NAMES)
    assert names(paths) > set(NAMES)


def test_suggested_splits(here: Path) -> None:
    arguments = ["data=folder", "data.root=welds", "data.groups=per_image", "output_dir=out"]
    save_image(here / "welds" / "good" / "cr\rcr.png", draw_noise(40, 20))
    call("audit", *arguments, "audit.suggest_split=split.csv")
    assert names(read_paths(here / "split.csv")) > {*NAMES, "cr\rcr.png"}


@pytest.mark.slow
def test_splits_and_tests(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*TINY, *DECISION, "trainer.max_epochs=1", "num_folds=2", "output_dir=run"]
    call("crossval", *arguments)
    assert names(read_paths(here / "run" / "predictions.csv")) > set(NAMES)
    for fold in ("fold_0", "fold_1"):
        assert names(read_paths(here / "run" / fold / "split.csv")) > set(NAMES)
        assert read_paths(here / "run" / fold / "predictions.csv")
    header = pl.read_csv(here / "run" / "predictions.csv", has_header=False, n_rows=1).row(0)
    assert 'p_po"re, x' in header
