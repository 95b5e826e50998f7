"""Every command that a message proposes works."""

import errno
import re
import shlex
from pathlib import Path
from unittest.mock import Mock

import pytest
from calling import call, exit_code, refuse
from drawing import write_welds
from trained import CLASSES, QUIET

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", CLASSES, seams=range(12), shots=2, size=(32, 16))
    return here


def find_proposed(text: str) -> list[list[str]]:
    """The commands that a text proposes, as words."""
    lines = re.findall(r"\S*weldnet-[a-z]+ (?:DIR )?\S+=.*", text)
    return [shlex.split(line) for line in lines]


def run_all(text: str, capsys: pytest.CaptureFixture[str], *kinds: str) -> None:
    """Runs the commands that a text proposes, which are of these kinds."""
    proposed = find_proposed(text)
    assert [Path(script).name for script, *_ in proposed] == [f"weldnet-{kind}" for kind in kinds]
    for script, *arguments in proposed:
        words = [re.sub("^(source=)?DIR$", r"\1welds", word) for word in arguments]
        assert exit_code(Path(script).name.removeprefix("weldnet-"), *words) == 0, words
    capsys.readouterr()


def test_those_of_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [*QUIET, "trainer.max_epochs=1", "output_dir=a run"]
    call("train", *one)
    run_all(capsys.readouterr().out, capsys, "predict")
    error = refuse(capsys, "train", *one)
    (hint,) = re.findall(r"ckpt_path=.*", error)
    run_all(f"weldnet-train {hint}", capsys, "train")
    # As a kill leaves it that comes after the last file.
    (here / "a run" / ".lock").touch()
    call("train", "ckpt_path=a run")
    assert not (here / "a run" / ".lock").exists()
    run_all(capsys.readouterr().out, capsys, "test", "train")
    with pytest.MonkeyPatch.context() as patch:
        # As in an archive.
        patch.setattr(
            "weldnet.config.runs.lock_folder", Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
        )
        call("train", "ckpt_path=a run")
    assert "a run' is complete" in capsys.readouterr().out
    call("export", "ckpt_path=a run", "format=onnx", "export.input=fixed", "output_dir=b")
    run_all(capsys.readouterr().out, capsys, "predict")


def test_those_of_a_cross_validation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("crossval", *QUIET, "trainer.max_epochs=1", "num_folds=2", "data.fold=1", "output_dir=run")
    run_all(capsys.readouterr().out, capsys, "crossval")
    call("crossval", "ckpt_path=run")
    run_all(capsys.readouterr().out, capsys, "test", "predict")
    error = refuse(capsys, "train", "ckpt_path=run")
    (proposed,) = find_proposed(error) or [["weldnet-test", *re.findall(r"ckpt_path=\S+", error)]]
    assert exit_code(proposed[0].removeprefix("weldnet-"), *proposed[1:]) == 0
