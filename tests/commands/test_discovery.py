"""Which files of a folder are photographs: for training, for the audit and at the line."""

import json
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from calling import call, exit_code, refuse
from drawing import SEAM, draw_blobs, write_welds
from encoding import encode, make_dicom, make_tiff
from PIL import Image
from untrained import save_untrained

from weldnet.data.decode.signatures import ENDINGS, sort_file
from weldnet.data.sources.found import Skipped
from weldnet.data.sources.selection import find_images

pytestmark = pytest.mark.usefixtures("undrawn")

FOLDER = ["data=folder", "data.root=welds", f"data.group_pattern={SEAM}"]
NUM_IMAGES = 32


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", ("crack", "good"), seams=range(8))
    return here


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts, however badly."""
    folder = tmp_path_factory.mktemp("run")
    save_untrained(folder / "checkpoints" / "best.ckpt", ("good", "crack"), backbone="test_resnet")
    return folder


def audit(*typed: str) -> dict[str, Any]:
    exit_code("audit", *typed, "output_dir=audit")
    summary: dict[str, Any] = json.loads(Path("audit/audit.json").read_text())
    return summary


def predict(run: Path, source: str) -> tuple[int, pl.DataFrame]:
    """The exit code of weldnet-predict and its rows."""
    code = exit_code("predict", f"ckpt_path={run}", f"source={source}", "output_dir=predictions")
    return code, pl.read_csv("predictions/predictions.csv")


SEEDS = count(7_000)


def draw(name: str) -> bytes:
    """A picture like no other in a format of Pillow's."""
    return encode(Image.fromarray(draw_blobs(40, 20, seed=next(SEEDS))), name)


JUNK = {
    "crack/@eaDir/seam0_0.jpg/SYNOPHOTO_THUMB_XL.jpg": "below @eaDir (the thumbnails of a NAS)",
    "@eaDir/x.jpg": "below @eaDir (the thumbnails of a NAS)",
    "crack/runs/report_files/00000.jpg": "below report_files (copies in a report of weldnet)",
    "runs/train/2026-11-28_10-17-50_b75a19/confusion_matrix.png": "below runs (what weldnet has written)",
    "crack/deep/@eadir/x.jpg": "below @eadir (the thumbnails of a NAS)",
    "crack/.thumbnails/x.jpg": "below .thumbnails (hidden)",
    "__MACOSX/crack/x.jpg": "below __MACOSX (macOS's notes in an archive)",
    "crack/.AppleDouble/x.jpg": "below .AppleDouble (hidden)",
    "crack/.ipynb_checkpoints/x-checkpoint.jpg": "below .ipynb_checkpoints (hidden)",
    "#recycle/crack/x.jpg": "below #recycle (the bin of a NAS)",
    "good/@Recycle/x.jpg": "below @Recycle (the bin of a NAS)",
    "$RECYCLE.BIN/S-1-5/x.jpg": "below $RECYCLE.BIN (the bin of Windows)",
    "System Volume Information/x.jpg": "below System Volume Information (Windows' own)",
    "crack/._seam0_0.jpg": "whose name begins with ._ (macOS's notes on other files)",
    "crack/.hidden.jpg": "hidden",
    "good/Thumbs.db": "named Thumbs.db",
    "good/.DS_Store": "hidden",
}


@pytest.mark.parametrize("name", JUNK)
def test_what_machines_put_beside_photographs(here: Path, name: str) -> None:
    write_all(here / "welds", {name: draw("JPEG")})
    found = Skipped()
    assert len(find_images("welds", found)) == NUM_IMAGES
    assert found.describe(here / "welds") == f"skipped 1 file: 1 {JUNK[name]}"
    # Glob passes over what is hidden by itself.
    assert len(find_images("welds/**/*")) == NUM_IMAGES


def test_the_audit_names_each_of_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds", {name: draw("JPEG") for name in JUNK})
    summary = audit(*FOLDER)
    assert summary["num_images"] == NUM_IMAGES
    named = {path: one["reason"] for one in summary["skipped"] for path in one["paths"]}
    assert named == {str(here / "welds" / name): reason for name, reason in JUNK.items()}
    assert [one["number"] for one in summary["skipped"]] == [len(one["paths"]) for one in summary["skipped"]]
    printed = capsys.readouterr().out
    assert f"skipped {len(JUNK)} files: " in printed
    assert all(f"{one['number']} {one['reason']}" in printed for one in summary["skipped"])


def test_who_names_them_gets_them(here: Path) -> None:
    """A manifest, a glob and a path mean what they say."""
    for name in ("@eaDir/x.jpg", ".hidden.jpg", "._note.jpg"):
        file = here / "welds" / "crack" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(draw("JPEG"))
    names = [f"welds/crack/{name}" for name in ("@eaDir/x.jpg", ".hidden.jpg", "._note.jpg")]
    rows = [f"{name},crack" for name in [*names, "welds/crack/seam0_0.jpg"]]
    Path("welds.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    assert audit("data=manifest", "data.manifest=welds.csv")["num_images"] == 4
    assert len(find_images("welds.csv")) == 4
    for source in ("welds/crack/@eaDir", "welds/crack/@eaDir/*", "welds/*/@eaDir/x.*", "welds/crack/@eaDir/x.jpg"):
        assert find_images(source) == [str(here / "welds/crack/@eaDir/x.jpg")]


def test_a_run_among_the_photographs_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refuse(capsys, "train", *FOLDER, "experiment=scratch", "output_dir=welds/run")
    assert f"output_dir={here / 'welds/run'} lies in the source" in message
    assert sorted(path.name for path in (here / "welds").iterdir()) == ["crack", "good"]


@pytest.mark.parametrize("names", [["{}/seam{}_0.jpg"], ["a/seam{}_0.jpg", "train/2026-11-28_10-17-50_b75a19/{}.png"]])
def test_a_class_called_runs_is_no_run(here: Path, names: list[str]) -> None:
    """Whether weldnet has written nothing there, or has beside the photographs."""
    write_all(here / "welds", {f"runs/{name.format(*[day] * 2)}": draw("JPEG") for name in names for day in range(3)})
    assert len(find_images("welds")) == NUM_IMAGES + 3


PHOTOGRAPHS = {
    "a.jfif": draw("JPEG"),
    "b.jpe": draw("JPEG"),
    "c.JIF": draw("JPEG"),
    "d.JPG_": draw("JPEG"),
    "e.jpg (1)": draw("JPEG"),
    "f": draw("JPEG"),
    "g": draw("TIFF"),
    "h": draw("PNG"),
    "i.txt": draw("PNG"),
    "j.bin": draw("WEBP"),
    "k.dat": draw("BMP"),
    "l.HEIC": draw("JPEG"),
    "m.gif": draw("PNG"),
    "IM000001": make_dicom(draw_blobs(40, 20, seed=9_001)[..., 0]),
    "1.2.840.113619": make_dicom(draw_blobs(40, 20, seed=9_002)[..., 0]),
    "without_preamble": make_dicom(draw_blobs(40, 20, seed=9_003)[..., 0])[132:],
    "n.tif.bak": make_tiff(draw_blobs(40, 20, seed=9_003)[..., 0].astype(np.uint16) * 257),
}
"""Photographs without an ending, or with one that nobody expects."""

OTHERS = {
    "notes.txt": b"weld 12 was ground",
    "BM.txt": b"BM: no image, though it begins like one",
    "report.pdf": b"%PDF-1.7\n",
    "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
    "film.avi": b"RIFF\x10\0\0\0AVI LIST",
    "sound.wav": b"RIFF\x10\0\0\0WAVEfmt ",
    "table.csv": b"path,label\n",
    "empty": b"",
    "short": b"II",
}

UNREAD = {
    "a.gif": draw("GIF"),
    "b.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "c": b"\0\0\0\x1cftypavif\0\0\0\0mif1avif",
    "d.jp2": draw("JPEG2000"),
    # What a camera's raw file is for a reader of TIFFs: a thumbnail.
    "e.NEF": draw("TIFF"),
    "f.dng": draw("TIFF"),
    "g.CR2": draw("TIFF"),
    "h": b"II*\0\x10\0\0\0CR\x02\0",
    "i.pgm": draw("PPM"),
}
"""Photographs that the decoder does not read."""


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.slow
def test_the_content_decides(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds" / "crack", {f"seam1_{name}": content for name, content in PHOTOGRAPHS.items()})
    summary = audit(*FOLDER)
    assert (summary["num_images"], summary["num_unreadable"]) == (NUM_IMAGES + len(PHOTOGRAPHS), 0)
    assert "skipped" not in capsys.readouterr().out
    write_all(here / "line", PHOTOGRAPHS)
    for source in ("line", "line/*"):
        code, rows = predict(run, source)
        assert code == 0
        assert {Path(path).name for path in rows["path"]} == set(PHOTOGRAPHS)
        assert rows["verdict"].null_count() == 0
        shutil.rmtree("predictions")


@pytest.mark.slow
def test_what_is_no_photograph_is_named(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds" / "crack", OTHERS)
    os.mkfifo(here / "welds" / "crack" / "pipe")
    (here / "welds" / "crack" / "gone").symlink_to("nowhere")
    assert audit(*FOLDER)["num_images"] == NUM_IMAGES
    line = (
        f"skipped {len(OTHERS) + 2} files: {len(OTHERS) + 2} of other kinds (crack/BM.txt, crack/empty, "
        "crack/film.avi, crack/film.mp4, crack/gone, ... and 6 more)\n"
    )
    assert line in capsys.readouterr().out
    code, rows = predict(run, "welds")
    assert (code, len(rows)) == (0, NUM_IMAGES)
    assert line in capsys.readouterr().out
    call("explain", f"ckpt_path={run}", "source=welds/crack", "output_dir=explained")
    assert "skipped 11 files: 11 of other kinds (BM.txt, " in capsys.readouterr().out


@pytest.mark.slow
def test_photographs_that_are_not_read_do_not_vanish(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds" / "crack", UNREAD)
    summary = audit(*FOLDER)
    assert (summary["num_images"], summary["num_unreadable"]) == (NUM_IMAGES, 0)
    found = [one for one in summary["findings"] if one["kind"] == "unread_format"]
    assert {Path(path).name for one in found for path in one["paths"]} == set(UNREAD)
    assert {one["severity"] for one in found} == {"warning"}
    assert "9 photographs in a format that weldnet does not read (crack/a.gif, " in capsys.readouterr().out
    code, rows = predict(run, "welds")
    assert (code, len(rows)) == (1, NUM_IMAGES + len(UNREAD))
    failed = rows.filter(pl.col("error").is_not_null())
    assert {Path(path).name for path in failed["path"]} == set(UNREAD)
    assert failed["verdict"].null_count() == len(UNREAD)
    assert exit_code("explain", f"ckpt_path={run}", "source=welds/crack", "output_dir=explained") == 1
    assert "9 of 25 files could not be read" in capsys.readouterr().err


def test_a_damaged_photograph_is_not_skipped(here: Path, run: Path) -> None:
    write_all(
        here / "welds" / "crack", {"a.jpg": b"", "b.png": b"text", "c.jfif": draw("JPEG")[:60], "d": draw("PNG")[:60]}
    )
    summary = audit(*FOLDER[:2])
    assert (summary["num_images"], summary["num_unreadable"]) == (NUM_IMAGES + 4, 4)
    assert predict(run, "welds")[0] == 1


def test_files_beside_the_classes_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds", {"top.jpg": draw("JPEG"), "labels.csv": b"a,b\n", ".DS_Store": b""})
    assert audit(*FOLDER)["num_images"] == NUM_IMAGES
    reasons = "1 beside the class folders, so of no class (top.jpg), 1 of other kinds (labels.csv), 1 hidden"
    assert f"skipped 3 files: {reasons}\n" in capsys.readouterr().out


def test_names_that_cannot_be_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"caf\xe9.txt", b"two\nlines.pdf"):
        Path(os.fsdecode(os.fsencode(here / "welds" / "crack") + b"/" + name)).write_bytes(b"text")
    assert audit(*FOLDER)["num_images"] == NUM_IMAGES
    assert r"2 of other kinds (crack/caf\udce9.txt, crack/two\nlines.pdf)" in capsys.readouterr().out


def test_a_class_of_photographs_that_are_not_read(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds" / "pore", UNREAD)
    for command in ("train", "audit"):
        message = refuse(capsys, command, *FOLDER)
        assert "no image in any split for 'pore'" in message
        assert "photographs in a format that weldnet does not read (pore/a.gif, " in message
    shutil.rmtree(here / "welds" / "good")
    (here / "texts").mkdir()
    write_all(here / "texts", OTHERS)
    message = refuse(capsys, "predict", f"ckpt_path={run}", "source=texts")
    assert "no image there; skipped 9 files: 9 of other kinds (BM.txt, " in message


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
def test_training_says_what_it_skips_and_squeezes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(here / "welds", {name: draw("JPEG") for name in JUNK})
    write_all(here / "welds" / "crack", {f"seam1_{name}": content for name, content in (PHOTOGRAPHS | OTHERS).items()})
    small = ["model=timm", "model.backbone=test_resnet", "model.weights=none"]
    small += ["data.image_size.height=160", "data.image_size.width=16"]
    small += ["data.batch_size=8", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1"]
    call("train", *FOLDER, *small, "callbacks.dashboard=null", "output_dir=out")
    number = len(JUNK) + len(OTHERS)
    printed = capsys.readouterr().out
    assert f"skipped {number} files: {len(OTHERS)} of other kinds (crack/seam1_BM.txt, " in printed
    # The drawn photographs are not strips, as the network's input is.
    shapes = "are squeezed by more than 3 to 1"
    logged = (here / "out" / "train.log").read_text()
    assert printed.count(shapes) == logged.count(shapes) == 1
    assert f"skipped {number} files: " in logged
    names = {Path(path).name for path in pl.read_csv("out/split.csv")["path"]}
    assert names >= {f"seam1_{name}" for name in PHOTOGRAPHS}
    assert len(names) == NUM_IMAGES // 2 + len(PHOTOGRAPHS)


def test_a_usual_ending_is_not_opened(tmp_path: Path) -> None:
    """So that a hundred thousand files are found as fast as their names are listed."""
    for ending in ENDINGS:
        assert sort_file(str(tmp_path / f"nowhere{ending.upper()}")) == "image"
    assert sort_file(str(tmp_path / "nowhere")) == "other"


def test_a_file_that_may_not_be_opened_is_not_lost(as_nobody: Path) -> None:
    file = as_nobody / "closed"
    file.write_bytes(draw("JPEG"))
    file.chmod(0)
    assert sort_file(str(file)) == "image"
