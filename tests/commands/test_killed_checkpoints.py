"""A kill while a checkpoint is written, with the run and the temporary files on different file systems."""

import os
import random
import re
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from drawing import write_welds
from fork_server import Forked, ForkServer
from full_disks import list_leftovers
from trained import SMALL

from weldnet.inference.checkpoint import load_checkpoint

NUM_KILLS = 2


def list_files(folders: list[Path]) -> set[tuple[str, int]]:
    """Names and inodes: what a killed process left may be written anew under its name."""
    found = set()
    for file in (file for folder in folders for file in folder.rglob("*")):
        with suppress(FileNotFoundError):
            found.add((file.name, file.stat().st_ino))
    return found


def wait_for_write(process: Forked, last: Path, folders: list[Path], delay: float) -> None:
    """Returns `delay` seconds after a file that holds last.ckpt begins to grow, or at once when it is cut off."""
    whole, known, began = last.stat().st_size, list_files(folders), 0.0
    while process.is_alive() and last.exists() and last.stat().st_size >= 0.9 * whole:
        # The run's own, or one that is staged elsewhere.
        if not began and any(re.search(r"last\.ckpt|^tmp", name) for name, _ in list_files(folders) - known):
            began = time.monotonic()
        if began and time.monotonic() - began > delay:
            return
        time.sleep(0.0005)


@pytest.mark.slow
def test_no_kill_loses_the_last_checkpoint(tmp_path: Path, forks: ForkServer) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system")
    write_welds(tmp_path / "welds", ("good", "pore"), seams=range(10), shots=1)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, epochs = random.Random(seed), 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    arguments = [
        *SMALL,
        "logger.tensorboard=null",
        "test=false",
        "callbacks.best=null",
        "trainer.max_epochs=200",
        "output_dir=run",
    ]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as temporary:
        for _ in range(NUM_KILLS):
            typed = ["ckpt_path=run"] if epochs else arguments
            with forks.start(tmp_path, "train", *typed, environment={"TMPDIR": temporary}) as process:
                process.wait_until(last.exists)
                wait_for_write(process, last, [last.parent, Path(temporary)], chance.uniform(0, 0.4))
                process.send_signal(signal.SIGKILL)
                assert process.wait().code == -signal.SIGKILL, process.wait()
            assert [file for file in Path(temporary).rglob("*") if file.is_file()] == [], "nothing stays elsewhere"
            before, epochs = epochs, load_checkpoint(last).num_epochs
            assert epochs >= max(before, 1)
    done = forks.run(tmp_path, "train", "ckpt_path=run", f"trainer.max_epochs={epochs + 1}")
    assert done.code == 0, done
    assert list_leftovers(tmp_path / "run") == []
