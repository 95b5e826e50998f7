"""A checkpoint that no command made: without thresholds, and without a config."""

from pathlib import Path

import pytest
from calling import exit_code, refuse
from drawing import write_welds
from untrained import save_untrained


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `best.ckpt` and `welds`."""
    monkeypatch.chdir(tmp_path)
    save_untrained(tmp_path / "best.ckpt", backbone="test_resnet")
    write_welds(tmp_path / "welds", seams=range(2), shots=1)
    return tmp_path


def test_that_nothing_is_accepted_is_reported_once(
    here: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert exit_code("predict", "ckpt_path=best.ckpt", "source=welds") == 0
    assert "".join([*capfd.readouterr(), caplog.text]).count("is not calibrated") == 1


def test_no_command_resumes_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "best.ckpt was not trained by a command" in refuse(capsys, "train", "ckpt_path=best.ckpt")


def test_it_is_tested_on_images_that_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "best.ckpt was not trained by a command; type data=folder" in refuse(capsys, "test", "ckpt_path=best.ckpt")
    assert exit_code("test", "ckpt_path=best.ckpt", "data=folder", "data.root=welds", "output_dir=tested") == 0
    assert (here / "tested" / "report.html").is_file()
