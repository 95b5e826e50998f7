"""A typed key that changes nothing is refused, or named in a warning."""

from pathlib import Path

import pytest
from calling import call, exit_code, refuse
from drawing import SEAM
from trained import SMALL

FOLDER = ["data=folder", "data.root=welds", f"data.group_pattern={SEAM}"]


def list_warned(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """The keys that were warned of, each once, with what they have no effect."""
    found = [record.getMessage().partition(" has no effect with ") for record in caplog.records]
    warned = [(key, where) for key, separator, where in found if separator]
    assert len(warned) == len(dict(warned))
    return dict(warned)


@pytest.mark.usefixtures("welds_here")
def test_training_refuses_what_weights_set(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["model.zero_init_residual=true", "model.weights=default"]
    assert "zero_init_residual=true changes nothing" in refuse(capsys, "train", *SMALL, *typed)
    assert not Path("runs").exists()


@pytest.mark.usefixtures("welds_here")
def test_an_audit_warns(caplog: pytest.LogCaptureFixture) -> None:
    unused = ["data.balance=sampler", "data.batch_size=8", "data.cache=memory"]
    exit_code("audit", *FOLDER, *unused, "data.num_seams=3", "data.image_size.width=40")
    drawn = {"data.num_seams": "photographs, which are not drawn"}
    assert list_warned(caplog) == drawn | dict.fromkeys(["data.balance", "data.batch_size", "data.cache"], "an audit")


@pytest.mark.slow
def test_a_test_warns(small: Path, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = ["data=folder", f"data.root={small / 'welds'}", f"data.group_pattern={SEAM}", "data.allow_leak=true"]
    unused = ["data.mixup=0.2", "data.shares.val=0.3", "data.num_folds=3", "data.fold=0", "data.seed=5"]
    call("test", f"ckpt_path=[{small / 'run'},{small / 'run'}]", *data, *unused, "data.batch_size=8")
    not_split = dict.fromkeys(
        ["data.shares.val", "data.num_folds", "data.fold", "data.seed"], "images to test, which are not split by it"
    )
    assert list_warned(caplog) == {"data.mixup": "a checkpoint, which is trained already"} | not_split
