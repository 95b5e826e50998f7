"""A number that would start processes, or fill memory or disk, without end is refused at once."""

from pathlib import Path

import pytest
from calling import refuse
from drawing import write_welds
from trained import CLASSES, SMALL

TRAIN = {
    "data.cache=none data.num_workers=100000": "data.num_workers=100000",
    "data.cache=none data.num_workers=1000000000000": "for each core",
    "data.cache=none data.num_workers=4 trainer.devices=4": "data.num_workers times trainer.devices=16",
    "trainer.devices=99": "trainer.devices=99",
    "trainer.devices=99 trainer.accelerator=auto": "trainer.devices=99",
    "trainer.devices='99'": "trainer.devices=99",
    "trainer.devices=1000000000000": "for each core",
    "trainer.num_nodes=99": "torchrun or SLURM",
    "data.batch_size=1": "allowed are 2 to",
    "data.batch_size=1000000000000": "allowed are 2 to",
    "data.image_size.height=100000": "1 to 4096",
    "data.num_folds=1000000000 data.fold=0": "1000 folds",
    "data=synthetic data.root=null data.group_pattern=null data.num_images=1000000000000": "at most 1,000,000",
    "data=synthetic data.root=null data.group_pattern=null data.num_seams=1000000000000": "too few",
}


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_welds(here / "welds", CLASSES, seams=range(8), shots=1)
    monkeypatch.setattr("weldnet.hardware.available_cores", lambda: 2)
    return here


@pytest.mark.parametrize("typed", TRAIN)
def test_training_is_bounded(here: Path, capsys: pytest.CaptureFixture[str], typed: str) -> None:
    assert TRAIN[typed] in refuse(capsys, "train", *SMALL, *typed.split(), "output_dir=run")
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("num_folds=1000000000000", "from 2 to 1000"),
        ("trainer.devices=99", "for each core"),
        ("data.cache=none data.num_workers=100000", "for each core"),
    ],
)
def test_cross_validation_is_bounded(here: Path, capsys: pytest.CaptureFixture[str], typed: str, message: str) -> None:
    assert message in refuse(capsys, "crossval", *SMALL, *typed.split(), "output_dir=run")
    assert not (here / "run").exists()


def test_a_batch_that_memory_cannot_hold_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weldnet.training.monitors.BYTES_PER_PIXEL", 2**50)
    assert "take a smaller data.batch_size" in refuse(capsys, "train", *SMALL, "output_dir=run")
    assert not (here / "run").exists()
