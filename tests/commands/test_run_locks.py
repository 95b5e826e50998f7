"""One command at a time works in a run folder; a killed one leaves it to the next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from calling import call, refuse
from drawing import write_welds
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", CLASSES, seams=range(8), shots=2, size=(32, 16))
    command, *typed = first
    script = Path(sys.executable).with_name(f"weldnet-{command}")
    with subprocess.Popen(
        [script, *QUIET, "trainer.max_epochs=2", *typed, "output_dir=run"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("epoch 1/2") for line in process.stdout)
        process.send_signal(signal.SIGSTOP)
        try:
            before = read_all(tmp_path / "run")
            for other in others:
                assert "another command is at work in" in refuse(capsys, *other.split())
            assert read_all(tmp_path / "run") == before
        finally:
            process.kill()
    for other in others:
        call(*other.split())
    assert Path(report).is_file()
    assert not Path(report).with_name(".lock").exists()


def read_all(run: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.rglob("*") if file.is_file()}
