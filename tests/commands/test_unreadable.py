"""Files that cannot be read: how many, and where all of them are listed."""

import json
from pathlib import Path

import polars as pl
import pytest
from calling import call, exit_code, refuse
from drawing import SEAM, write_welds

pytestmark = pytest.mark.usefixtures("undrawn")

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


@pytest.fixture
def damaged(here: Path) -> set[str]:
    """The paths of 30 files that cannot be read, below `welds`, where 32 can."""
    write_welds(here / "welds", seams=range(8))
    files = [here / "welds" / "crack" / f"seam{number % 8}_damaged {number}, .jpg" for number in range(30)]
    for file in files:
        file.touch()
    return set(map(str, files))


def test_a_refusal_counts_them_and_the_audit_lists_them(damaged: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = refuse(capsys, "train", *SMALL)
    assert "30 of 62 images cannot be read" in message
    assert "... and 10 more" in message
    assert "weldnet-audit with the same data keys lists them all" in message
    assert not Path("runs").exists()
    assert exit_code("audit", *SMALL[:3], "output_dir=audit") == 1
    found = [one for one in json.loads(Path("audit/audit.json").read_text())["findings"] if one["kind"] == "unreadable"]
    assert {path for one in found for path in one["paths"]} == damaged
    assert {one["detail"] for one in found} == {"the file is empty"}


@pytest.mark.slow
def test_a_run_without_them_lists_them(damaged: set[str]) -> None:
    call("train", *SMALL, "data.on_unreadable=skip", "output_dir=run")
    call("test", "ckpt_path=run", "output_dir=test")
    for folder in ("run", "test"):
        table = pl.read_csv(f"{folder}/unreadable.csv")
        assert set(table["path"]) == damaged
        assert set(table["reason"]) == {"the file is empty"}
    assert not set(pl.read_csv("run/split.csv")["path"]) & damaged
