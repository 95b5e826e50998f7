"""One command at a time works in a run folder; a killed one leaves it to the next."""

import signal
from pathlib import Path

import pytest
from calling import call, refuse
from drawing import write_welds
from fork_server import ForkServer
from trained import CLASSES, QUIET

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

FOLDS = ["num_folds=2", "data.fold=0"]


@pytest.mark.parametrize(
    ("first", "others", "report"),
    [
        (["train"], ["train ckpt_path=run"], "run/report.html"),
        (
            ["crossval", *FOLDS],
            ["train ckpt_path=run/fold_0", "crossval ckpt_path=run data.fold=0"],
            "run/fold_0/report.html",
        ),
    ],
    ids=["train", "crossval"],
)
def test_a_second_command_is_refused_until_the_first_is_killed(
    first: list[str],
    others: list[str],
    report: str,
    forks: ForkServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", CLASSES, seams=range(8), shots=2, size=(32, 16))
    command, *typed = first
    with forks.start(tmp_path, command, *QUIET, "trainer.max_epochs=2", *typed, "output_dir=run") as process:
        process.wait_for("epoch 1/2")
        process.send_signal(signal.SIGSTOP)
        before = read_all(tmp_path / "run")
        for other in others:
            assert "another command is at work in" in refuse(capsys, *other.split())
        assert read_all(tmp_path / "run") == before
    for other in others:
        call(*other.split())
    assert Path(report).is_file()
    assert not Path(report).with_name(".lock").exists()


def read_all(run: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.rglob("*") if file.is_file()}
