"""Every command on a disk that is full: one message, exit code 2, old files whole, nothing half-written."""

import re
import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from calling import call, refuse
from full_disks import limit_files, list_leftovers, mount
from trained import DECISION, QUIET, SMALL, copy_small

from weldnet.inference.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, `welds` and the cache; not to be changed."""
    return copy_small(small, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("WELDNET_CACHE", str(trained / "cache"))
    return tmp_path


TRAIN = [*QUIET, *DECISION, "trainer.max_epochs=1"]
COMMANDS = {
    "train, its first file": (1000, "train", TRAIN, "config.yaml|split.csv"),
    "train, its first checkpoint": (1_000_000, "train", TRAIN, r"checkpoints/best\.ckpt"),
    "test": (8000, "test", ["ckpt_path=run"], "predictions.csv|confusion_matrix.png"),
    "audit": (8000, "audit", SMALL[:3], "audit.html|audit.json"),
    "crossval": (1_000_000, "crossval", [*TRAIN, "num_folds=2"], r"fold_0/checkpoints/best\.ckpt"),
    "predict": (8000, "predict", ["ckpt_path=run", "source=welds"], r"predictions\.(csv|jsonl)"),
    "predict, its first file": (
        100,
        "predict",
        ["ckpt_path=run", "source=welds"],
        r"judged_by\.json|predictions\.jsonl",
    ),
    "explain": (2000, "explain", ["ckpt_path=run", "source=welds/good/seam1_*"], r"seam1_0\.jpg\.png"),
    "export": (2_000_000, "export", ["ckpt_path=run", "format=onnx", "export.input=fixed"], ""),
}


# What takes longest meets one of the two.
BOTH = [name for name in COMMANDS if name not in ("crossval", "export")]


@pytest.mark.parametrize(
    ("how", "name"),
    [*(("no space left on device", name) for name in COMMANDS), *(("file too large", name) for name in BOTH)],
)
def test_a_full_disk(here: Path, capsys: pytest.CaptureFixture[str], how: str, name: str) -> None:
    num_bytes, command, arguments, file = COMMANDS[name]
    with ExitStack() as disk:
        folder = here / "disk"
        if how == "file too large":
            disk.enter_context(limit_files(num_bytes))
            folder.mkdir()
        else:
            # A tmpfs has pages of 4096 bytes.
            disk.enter_context(mount(folder, str(-(-num_bytes // 4096) * 4096)))
        message = refuse(capsys, command, *arguments, f"output_dir={folder}/out")
        left = list_leftovers(folder)
    lines = [line for line in message.splitlines() if line.startswith(f"weldnet-{command}: ")]
    assert len(lines) == 1, message
    assert re.search(rf"{folder}/out[\w./]*({file}): {how}; the folder {folder}\S* has [\d,.]+ MB free; ", lines[0])
    assert left == []


def test_a_full_disk_before_the_server_starts(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it starts"))
    with mount(here / "disk", "40k"):
        message = refuse(capsys, "serve", "ckpt_path=run", "port=0", f"output_dir={here}/disk/out")
    assert "disk/out/decisions.jsonl: the disk is full; the folder" in message


def test_a_full_disk_while_resuming(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mount(here / "disk", "64m") as disk:
        call("train", *TRAIN, "test=false", f"output_dir={disk}/run")
        (disk / "fill").write_bytes(bytes(shutil.disk_usage(disk).free - 1_000_000))
        before = {file: file.read_bytes() for file in (disk / "run" / "checkpoints").iterdir()}
        message = refuse(capsys, "train", f"ckpt_path={disk}/run", "trainer.max_epochs=3")
        assert re.search(r"checkpoints/(best|last)\.ckpt: no space left on device; .* has [\d.]+ MB free", message)
        assert before == {file: file.read_bytes() for file in (disk / "run" / "checkpoints").iterdir()}
        (command,) = re.findall(r"then resume with: (\S*weldnet-train) (.*)", message)
        (disk / "fill").unlink()
        call("train", *shlex.split(command[1]), "trainer.max_epochs=2")
        assert load_checkpoint(disk / "run" / "checkpoints" / "last.ckpt").num_epochs == 2
        assert list_leftovers(disk) == []


def test_a_full_folder_for_temporary_files(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mount(here / "tmp", "8k,nr_inodes=2") as temporary:
        (temporary / "fill").touch()
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        # Training needs none; a sweep does.
        call("train", *TRAIN, "test=false", f"output_dir={here}/run")
        message = refuse(capsys, "audit", "-m", *SMALL[:3], "seed=1,2")
        assert f"{temporary}" in message
        assert f"the folder {temporary} has no room for one more file" in message


def test_copies_that_a_full_disk_does_not_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ckpt_path=run", "source=welds", f"output_dir={here}/out"]
    with mount(here / "disk", "48k") as disk:
        message = refuse(capsys, "predict", *arguments, f"sort_into={disk}/sorted")
        assert re.search(r"\.jpg: no space left on device; the folder .* has [\d.]+ MB free", message)
        assert "resume=true" in message
        assert list_leftovers(disk) == []
    shutil.rmtree(here / "out")
