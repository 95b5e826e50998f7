"""Several processes train one run: as one process would, on odd numbers of images; and the loss of one of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from calling import call, refuse
from drawing import write_welds
from fork_server import ForkServer
from trained import TINY
from training_runs import quiet
from two_processes import FROZEN, evaluate, make_trainer

from weldnet.inference.history import read_history

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPE = [
    *(key for key in TINY if not key.startswith(("data=", "data.root", "data.group", "data.batch", "trainer="))),
    *("data=manifest", "data.manifest=welds.csv", "data.augmentation=none"),
    *("optimizer=sgd", "logger=csv", "trainer.accelerator=cpu"),
]
HALF, WHOLE = "data.batch_size=7", "data.batch_size=14"
TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2"]


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """28 images to train, 9 of 16 to choose the epoch, 13 to test; processes of one thread that find the tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    root = write_welds(here / "welds", ("good", "pore"), seams=range(30), shots=1)
    lines = []
    for file in sorted(root.glob("*/*.jpg")):
        seam = int(file.stem.split("_")[0].removeprefix("seam"))
        if file.parent.name == "pore" and seam in (14, 16, 29):
            continue
        split = "train" if seam < 14 else "val" if seam < 23 else "test"
        lines.append({"path": str(file), "label": file.parent.name, "group": f"seam{seam}", "split": split})
    pl.DataFrame(lines).write_csv(here / "welds.csv")
    return here


def read_last(run: str, stage: str) -> dict[str, float]:
    """The figures of a stage in the last epoch of a run."""
    table = pl.read_csv(Path(run, "csv", "version_0", "metrics.csv"))
    columns = [name for name in table.columns if name.startswith((f"{stage}/", f"{stage}_recall/"))]
    values = table.select(columns).filter(pl.col(columns[0]).is_not_null())
    return {name: values[name][-1] for name in columns}


@pytest.mark.slow
@quiet
def test_two_processes_train_and_measure_as_one(here: Path) -> None:
    script = str(Path(__file__).with_name("two_processes.py"))
    done = subprocess.run([*TORCHRUN, script, *RECIPE, "trainer=ddp", HALF], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sync_dist" not in done.stderr
    assert done.stdout.count("2 processes") == done.stdout.count("epoch 3/3") == 2, "one of them prints"
    for run in ("frozen", "live"):
        assert sorted(file.name for file in (here / run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
        assert [file.name for file in (here / run / "csv").iterdir()] == ["version_0"]
        assert (here / run / "train.log").read_text().count("epoch 3/3") == 1
        assert "devices: 2" in (here / run / "config.yaml").read_text()
    # The same weights measured by one process, after training and within it.
    expected = evaluate(here / "live", make_trainer())
    measured = pl.read_json(here / "figures.json").row(0, named=True)
    assert measured == pytest.approx(expected, abs=1e-6)
    validated = read_last("live", "val")
    assert validated == pytest.approx({name: expected[name] for name in validated}, abs=1e-6)
    # The same steps by one process.
    call("train", *RECIPE, FROZEN, WHOLE, "output_dir=whole")
    for stage in ("train", "val"):
        assert read_last("frozen", stage) == pytest.approx(read_last("whole", stage), abs=1e-5)
    pairs = zip(read_history(here / "frozen"), read_history(here / "whole"), strict=True)
    assert all(shared == pytest.approx(whole, abs=1e-5) for shared, whole in pairs)
    both = [torch.load(here / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("frozen", "whole")]
    assert both[0]["global_step"] == both[1]["global_step"] == 6
    for name, weights in both[0]["state_dict"].items():
        torch.testing.assert_close(weights, both[1]["state_dict"][name], rtol=1e-4, atol=1e-6)


ENDLESS = [*RECIPE, "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=500", "output_dir=run"]


def find_child(pid: int) -> int:
    """The process that this one has started."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def check_end(here: Path, printed: str) -> None:
    """The process that is left has said why it ends; what it printed works, here with one process."""
    assert "Traceback" not in printed
    assert "one of the 2 processes that train together has ended" in printed
    assert "Resume with: " in printed
    assert "ckpt_path=run" in printed
    call("train", "ckpt_path=run", "trainer.devices=1", "trainer.strategy=auto", "trainer.max_epochs=3")
    assert (here / "run" / "report.html").is_file()


@pytest.mark.slow
def test_without_the_first_process_the_training_ends_within_a_minute(here: Path) -> None:
    script = str(Path(sys.executable).with_name("weldnet-train"))
    with subprocess.Popen([script, *ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/500"):
                break
        other = find_child(process.pid)
        process.kill()
        late = threading.Timer(60, os.kill, (other, signal.SIGKILL))
        late.start()
        rest = process.stdout.read()
        late.cancel()
        assert process.wait(60) == -signal.SIGKILL
    check_end(here, rest)


@pytest.mark.slow
def test_without_the_second_process_the_training_ends_within_a_minute(here: Path, forks: ForkServer) -> None:
    with forks.start(here, "train", *ENDLESS, limit_s=600) as process:
        before = process.wait_for("epoch 2/500")
        os.kill(find_child(process.pid), signal.SIGKILL)
        killed = time.monotonic()
        done = process.wait()
    assert time.monotonic() - killed < 60
    assert done.code == 2, done
    check_end(here, done.out.removeprefix(before) + done.err)


@pytest.mark.parametrize(
    ("typed", "variables", "message"),
    [
        (["trainer=ddp", "trainer.devices=2", "-m", "seed=1,2"], {}, "start one run at a time"),
        (["trainer=slurm"], {"SLURM_NNODES": "3", "SLURM_NTASKS_PER_NODE": "2"}, "trainer.devices=2 needs 6 processes"),
        (["trainer=ddp"], {"GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "3"}, "trainer.devices=3 needs 6 processes"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert message in refuse(capsys, "train", *RECIPE, *typed)
    assert not (here / "runs").exists()
