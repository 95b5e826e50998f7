"""The leak guard through the real commands: refused by default, reported everywhere if allowed."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call, refuse
from drawing import draw_blobs, draw_views, save_image, write_welds

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.sources.source import Folder, Manifest
from weldnet.inference.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = [
    "model=timm",
    "model.backbone=test_resnet",
    "model.weights=none",
    "data.image_size.height=32",
    "data.image_size.width=16",
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "callbacks.dashboard=null",
    "logger.tensorboard=null",
]


@pytest.fixture
def here(here: Path) -> Path:
    for split, seams in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        write_welds(here / "welds" / split, seams=seams)
    return here


def read(folder: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(Path(folder, "metrics.json").read_text())
    return metrics


def copy_a_file(welds: Path) -> str:
    shutil.copy(welds / "train/crack/seam0_0.jpg", welds / "test/crack/other.jpg")
    return "1 identical file in more than one split: "


def share_a_group(welds: Path) -> str:
    save_image(welds / "test/pore/seam0_9.jpg", draw_blobs(40, 20, seed=77))
    return "1 group in test also in train: seam0"


@pytest.mark.slow
@pytest.mark.parametrize("plant", [copy_a_file, share_a_group])
def test_training_refuses_a_leak_or_says_it(here: Path, capsys: pytest.CaptureFixture[str], plant: Any) -> None:
    data = ["data=folder", "data.root=welds"]
    if plant is share_a_group:
        data.append(r"data.group_pattern=seam\d+")
    leak = plant(here / "welds")
    error = refuse(capsys, "train", *SMALL, *data)
    assert leak in error
    assert "data.allow_leak=true" in error
    assert "weldnet-audit" in error
    assert not (here / "runs").exists()

    call("train", *SMALL, *data, "data.allow_leak=true", "output_dir=run")
    printed = capsys.readouterr().out
    assert f"LEAK: {leak}"[:40] in printed
    metrics = read("run")
    for each in (metrics, metrics["validation"]):
        assert each["leaks"][0].startswith(leak)
    card = load_checkpoint(here / "run/checkpoints/best.ckpt").card
    assert card.leaks[0].startswith(leak)
    # A checkpoint whose choice leaked reports it on clean images, too.
    write_welds(here / "clean", seams=range(20, 22))
    call("test", "ckpt_path=run", "data=folder", "data.root=clean", "output_dir=clean_test")
    assert read("clean_test")["leaks"] == card.leaks
    call("test", "ckpt_path=run", "output_dir=own_test")
    assert read("own_test")["leaks"] == metrics["leaks"]


@pytest.mark.slow
def test_a_test_refuses_what_trained_the_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("train", *SMALL, "data=folder", "data.root=welds", "output_dir=run")
    assert read("run")["leaks"] == []
    assert read("run")["num_trained_on"] == 0
    capsys.readouterr()

    # Other names, other folders, the same content.
    write_welds(here / "new", seams=range(30, 32))
    shutil.copy(here / "welds/train/pore/seam3_1.jpg", here / "new/pore/looks_new.jpg")
    new = ["ckpt_path=run", "data=folder", "data.root=new"]
    error = refuse(capsys, "test", *new, "output_dir=refused")
    assert "1 image of the test trained the network" in error
    assert "looks_new.jpg" in error
    assert "data.allow_leak=true" in error
    assert not (here / "refused").exists()

    call("test", *new, "data.allow_leak=true", "output_dir=allowed")
    assert "LEAK: 1 image of the test" in capsys.readouterr().out.replace("\n", " ")
    metrics = read("allowed")
    assert (metrics["num_images"], metrics["num_trained_on"]) == (9, 1)
    assert len(metrics["leaks"]) == 1

    # On purpose, and labelled.
    call("test", "ckpt_path=run", "split=train", "output_dir=train_test")
    metrics = read("train_test")
    assert (metrics["split"], metrics["num_images"], metrics["num_trained_on"], metrics["leaks"]) == (
        "train",
        16,
        16,
        [],
    )
    assert "16 images, all of them trained on" in capsys.readouterr().out
    call("test", "ckpt_path=run", "split=all", "output_dir=all_test")
    assert "32 images, 16 of them trained on" in capsys.readouterr().out


def write_spots(root: Path, num_seen_twice: int) -> None:
    """20 photographs of each of two classes, among them two of each of some spots."""
    for label in ("crack", "pore"):
        for number in range(20):
            seed = number // 2 if number < 2 * num_seen_twice else 100 + number
            picture = draw_views(72, 60, seed + 1000 * (label == "pore"))[number % 2]
            save_image(root / label / f"{number:02}.png", picture)


@pytest.fixture
def spots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_spots(tmp_path / "spots", 10)
    return tmp_path


@pytest.mark.parametrize("command", ["train", "crossval"])
@pytest.mark.parametrize("cache", ["disk", "none"])
def test_spots_seen_twice_are_refused(
    spots: Path, capsys: pytest.CaptureFixture[str], command: str, cache: str
) -> None:
    data = ["data=folder", "data.root=spots", "data.group_by=per_image", f"data.cache={cache}"]
    error = refuse(capsys, command, *SMALL, *data, "data.image_size.height=48", "data.image_size.width=32")
    assert "test images show a spot that train or val shows: " in error
    first = error.splitlines()[1]
    assert first.count(" = ") == 3
    assert first.endswith("more")
    for typed in ("data.group_pattern='REGEX'", "audit.suggest_groups=FILE.csv", "data.allow_leak=true"):
        assert typed in error
    assert "if every photograph shows a different weld" not in error
    assert not (spots / "runs").exists()
    # The audit says so beforehand, in the same words.
    call("audit", *data, "output_dir=audit")
    refusals = json.loads((spots / "audit" / "audit.json").read_text())["refusals"]
    assert f"weldnet-{command}: {refusals[command]}" in error


@pytest.mark.slow
def test_groups_by_spots_train_and_what_was_allowed_is_reported(
    spots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["data=folder", "data.root=spots", "data.group_by=per_image"]
    size = ["data.image_size.height=48", "data.image_size.width=32"]
    call("audit", *data, "audit.suggest_groups=groups.csv", "output_dir=audit")
    assert "20 groups, 20 of several photographs" in capsys.readouterr().out
    findings = json.loads((spots / "audit" / "audit.json").read_text())["findings"]
    assert [found["kind"] for found in findings] == ["same_view"] * 20
    call("train", *SMALL, *size, "data=manifest", "data.manifest=groups.csv", "output_dir=run")
    assert read("run")["leaks"] == []
    call("train", *SMALL, *size, *data, "data.allow_leak=true", "output_dir=leaking")
    (leak,) = read("leaking")["leaks"]
    assert "test images show a spot that train or val shows" in leak
    assert load_checkpoint(spots / "leaking/checkpoints/best.ckpt").card.leaks == [leak]


def test_a_few_spots_seen_twice_are_a_warning(tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        seed, split = (0, ("train", "test")[number]) if number < 2 else (number, ("train", "val", "test")[number % 3])
        file = save_image(tmp_path / f"{number:02}.png", draw_views(72, 60, seed)[number % 2])
        rows.append((str(file), ("crack", "pore")[number // 2 % 2], "", split))
    pl.DataFrame(rows, schema=["path", "label", "group", "split"], orient="row").write_csv(tmp_path / "spots.csv")
    data = WeldDataModule(Manifest(manifest=str(tmp_path / "spots.csv")), geometry=Geometry(48, 32), seed=0)
    data.setup()
    assert data.leaks == []
    (warning,) = [each for each in data.warnings if "show a spot" in each]
    assert warning.startswith("1 of ")
    assert "01.png = " in warning


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("normalize", ["imagenet", "per_image"])
def test_no_border_is_taken_for_a_view(tmp_path: Path, resize: str, normalize: str) -> None:
    for label in ("crack", "pore"):
        for number in range(20):
            picture = draw_views(60, 120, number + 1000 * (label == "pore"))[0]
            save_image(tmp_path / label / f"{number}.png", picture)
    geometry = Geometry(96, 32, resize=resize, normalize=normalize)
    data = WeldDataModule(Folder(root=str(tmp_path), group_by="per_image"), geometry=geometry, seed=0)
    data.setup()
    assert not any("show a spot" in each for each in [*data.leaks, *data.warnings])
