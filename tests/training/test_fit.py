"""What can go wrong between the first step and the last."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from calling import call
from drawing import write_welds
from fork_server import ForkServer
from lightning import Callback
from trained import QUIET, SMALL, TINY
from training_runs import heed_interrupts

from weldnet.commands.train import main
from weldnet.data.storage import FileImages

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")
def test_a_killed_worker_is_reported_and_nothing_hangs(
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
    small = [
        "model=timm",
        "model.backbone=test_resnet",
        "model.weights=none",
        "data.image_size.width=32",
        "data.image_size.height=32",
        "trainer=cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["weldnet-train", *settings, *small, "callbacks.dashboard=null"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "was killed" in error
    assert "data.num_workers=2" in error


def can_mount() -> bool:
    """Whether this process may give another one a /dev/shm of its own."""
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]
    return shutil.which("unshare") is not None and subprocess.run(mount, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small /dev/shm")
def test_a_full_dev_shm_ends_a_run_and_nothing_hangs(tmp_path: Path) -> None:
    write_welds(tmp_path / "welds", seams=range(12), size=(224, 224))
    script = Path(sys.executable).with_name("weldnet-train")
    sizes = ["data.image_size.height=224", "data.image_size.width=224", "data.cache=none", "data.num_workers=2"]
    settings = [each for each in TINY if "image_size" not in each]
    small = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    words = ["unshare", "--mount", "bash", "-c", small, "bash", str(script), *settings, *sizes, "output_dir=run"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for line in process.stdout:
                if line.startswith("watch it"):
                    break
            began = time.monotonic()
            process.wait(60)
        finally:
            process.kill()
        assert time.monotonic() - began < 30
        error = process.stderr.read()
    assert process.returncode == 2, error
    assert "cannot hand over its batch" in error
    assert "--shm-size" in error
    assert "Traceback" not in error


class EndlessReading(Callback):
    """From now on no image is ever read."""

    def __init__(self) -> None:
        def wait(self: FileImages, rows: object) -> None:
            print("waiting", flush=True)
            time.sleep(1000)

        FileImages.read = wait  # type: ignore[assignment, method-assign]


@pytest.mark.slow
def test_sigterm_ends_a_run_that_waits_for_its_images(
    here: Path, monkeypatch: pytest.MonkeyPatch, forks: ForkServer
) -> None:
    write_welds(here / "welds", seams=range(8))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    typed = ["data.cache=none", "data.num_workers=2", "+callbacks.wait._target_=test_fit.EndlessReading"]
    with forks.start(here, "train", *QUIET, *typed, "output_dir=run", limit_s=60) as process:
        process.wait_for("waiting")
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        done = process.wait()
    assert (done.code, done.over) == (130, ""), done
    assert "Traceback" not in done.out + done.err


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize("mixing", [[], ["data.mixup=0.2", "data.cutmix=1.0"]])
def test_an_image_that_is_left_over_is_trained_on_without_a_batch_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixing: list[str]
) -> None:
    """At 32 x 16 the last stage is one pixel in size, and batch norm raises for a batch of one image."""
    write_welds(tmp_path / "welds", seams=range(20))
    monkeypatch.chdir(tmp_path)
    call(
        "train",
        *SMALL,
        "logger.tensorboard=null",
        *mixing,
        "data.batch_size=11",
        "trainer.max_epochs=1",
        "test=false",
        "output_dir=run",
    )
    num_train = (pl.read_csv("run/split.csv")["split"] == "train").sum()
    assert num_train % 11 == 1
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == num_train // 11
