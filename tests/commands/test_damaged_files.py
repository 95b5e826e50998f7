"""Damaged files through the commands: referred, found, refused or skipped; sound ones are none of it."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call, exit_code, refuse
from damaging import BROKEN_METADATA, DAMAGED, FOREIGN, SOUND, break_sum
from drawing import draw_noise, save_image, write_welds
from PIL import Image
from trained import QUIET
from untrained import save_untrained

from weldnet.report.explained import CAPTION

pytestmark = pytest.mark.usefixtures("undrawn")

TRUNCATED = ("rgb.png", "420.jpg", "lossy.webp")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.ckpt and `photos/damaged`, `sound` and `unread`."""
    folder = tmp_path_factory.mktemp("home")
    save_untrained(folder / "a.ckpt", backbone="test_resnet")
    contents = {f"damaged/{name}": make() for name, make in DAMAGED.items()}
    contents |= {f"sound/{name}": make() for name, make in (SOUND | BROKEN_METADATA).items()}
    contents |= {f"unread/{name}": content for name, (content, _) in FOREIGN.items()}
    for name in TRUNCATED:
        content = contents[f"sound/{name}"]
        contents[f"unread/{name}"] = content[: len(content) // 2]
    for name, content in contents.items():
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(content)
    return folder


@pytest.fixture
def out(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write to, while `home` is the current directory."""
    monkeypatch.chdir(home)
    return tmp_path / "out"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_predictions_report_damage(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("ckpt_path=a.ckpt", "source=photos", "device=cpu", f"output_dir={out}", f"sort_into={out}_sorted")
    assert exit_code("predict", *arguments) == 1
    assert f"damaged, and therefore referred: {len(DAMAGED)}" in capsys.readouterr().out
    rows = read_rows(out)
    assert len(rows) == len(DAMAGED) + len(SOUND) + len(BROKEN_METADATA) + len(FOREIGN) + len(TRUNCATED)
    for row in rows:
        kind = Path(row["path"]).parent.name
        assert row["damaged"] is {"damaged": True, "sound": False, "unread": None}[kind], row
        assert (row["error"] is None) == (kind != "unread")
        assert row["verdict"] == (None if kind == "unread" else "refer")  # the checkpoint is not calibrated
        assert (row["p_good"] is None) == (kind == "unread")
    table = pl.read_csv(out / "predictions.csv")
    assert table["damaged"].to_list() == [row["damaged"] for row in rows]
    assert (out.with_name("out_sorted") / "refer" / "damaged" / "zeros.jpg").is_file()


def test_a_folder_of_before_there_was_such_a_column_is_resumed(out: Path) -> None:
    arguments = ("ckpt_path=a.ckpt", "source=photos/damaged", "device=cpu", f"output_dir={out}")
    assert exit_code("predict", *arguments) == 0
    lines = out / "predictions.jsonl"
    rows = read_rows(out)
    for row in rows:
        del row["damaged"]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    (out / "predictions.csv").write_text("path,sha256\n")
    assert exit_code("predict", *arguments, "resume=true") == 0
    assert [row["damaged"] for row in read_rows(out)] == [None] * (len(rows) - 1) + [True]
    assert pl.read_csv(out / "predictions.csv")["damaged"].to_list()[-1]


def test_an_audit_finds_damage_and_nothing_else(home: Path, out: Path) -> None:
    manifest = home / "photos.csv"
    files = sorted(file for file in (home / "photos").rglob("*") if file.is_file())
    pl.DataFrame({"path": [str(file) for file in files], "label": ["good"] * len(files)}).write_csv(manifest)
    arguments = ("data=manifest", f"data.manifest={manifest}", "data.groups=per_image", f"output_dir={out}")
    assert exit_code("audit", *arguments) == 1
    findings = json.loads((out / "audit.json").read_text())["findings"]
    for kind, folder in (("damaged", "damaged"), ("unreadable", "unread")):
        found = [found for found in findings if found["kind"] == kind]
        assert {path for one in found for path in one["paths"]} == {str(f) for f in files if f.parent.name == folder}
        assert {one["severity"] for one in found} == {"error"}
    assert "Damaged files" in (out / "audit.html").read_text()


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_training_stops_at_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", ("good", "pore"), ending="png")
    for file in list((tmp_path / "welds").rglob("*1.png"))[:2]:
        file.write_bytes(break_sum(file.read_bytes(), b"IDAT"))
    message = refuse(capsys, "train", *QUIET, f"data.cache={cache}", "output_dir=run")
    assert "2 of 16 images cannot be read" in message
    assert message.count("damaged: its IDAT chunk is damaged or missing") == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_skips_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", ("good", "pore"), seams=range(8), ending="png")
    file = tmp_path / "welds" / "pore" / "seam1_1.png"
    file.write_bytes(break_sum(file.read_bytes(), b"IDAT"))
    call("train", *QUIET, "trainer.max_epochs=1", "data.on_unreadable=skip", "output_dir=run")
    assert str(file) not in (tmp_path / "run" / "split.csv").read_text()
    assert len(pl.read_csv(tmp_path / "run" / "split.csv")) == 31


def test_a_heatmap_of_a_damaged_file_says_so(out: Path) -> None:
    few = out.with_name("few")
    save_image(few / "sound.png", draw_noise(40, 30))
    (few / "damaged.png").write_bytes(DAMAGED["sum.png"]())
    assert exit_code("explain", "ckpt_path=a.ckpt", f"source={few}", "device=cpu", f"output_dir={out}") == 0
    for name in ("sound", "damaged"):
        with Image.open(out / f"{name}.png.png") as picture:
            assert ("refer (the file is damaged)" in picture.info[CAPTION]) == (name == "damaged")
