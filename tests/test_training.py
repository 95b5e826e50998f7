"""What can go wrong between the first step and the last."""

import os
import signal
import sys
from pathlib import Path

import pytest
from drawing import write_welds

from weldnet.commands.train import main
from weldnet.data.storage import FileImages


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")
def test_a_killed_worker_is_said_and_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_welds(tmp_path / "welds", seams=range(8))
    trainer = os.getpid()

    def read(self: FileImages, rows: object) -> None:
        assert os.getpid() != trainer
        # As the kernel does when memory runs out.
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(FileImages, "read", read)
    monkeypatch.chdir(tmp_path)
    settings = [
        "data=folder",
        "data.root=welds",
        "data.group_pattern=seam\\d+",
        "data.cache=none",
        "data.num_workers=2",
    ]
    small = ["model.backbone=resnet18", "model.weights=none", "data.image_size.height=32", "trainer=cpu"]
    monkeypatch.setattr(sys, "argv", ["weldnet-train", *settings, *small, "callbacks.dashboard=null"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "was killed" in error
    assert "data.num_workers=2" in error
