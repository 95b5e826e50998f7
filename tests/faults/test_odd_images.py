"""Odd and damaged image files: decoded right or refused in words, by the decoder, weldnet-predict and weldnet-audit.

`python tests/faults/odd_images.py DIR` writes the files.
"""

import csv
import json
import os
import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from decoding import read_image
from encoding import make_chunk
from fork_server import Done, ForkServer
from odd_image import GREY, OddImage
from odd_images import make_odd_images
from untrained import save_untrained

from weldnet.errors import InputError

pytestmark = pytest.mark.slow

ODD = make_odd_images()
DAMAGED = [image for image in ODD if image.kind == "damaged"]
SOUND = [image for image in ODD if image.kind == "sound" and image.window == "full"]
HEIGHT, WIDTH = GREY.shape
JARGON = (
    r"decoder error|unpack|requires a buffer|pixel mode|conversion from|missing dimensions|not supported$|^.{0,9}$|\n"
)
"""What libraries say; nobody can act on it."""
FORMATS = "JPEG|PNG|BMP|TIFF|WebP|DICOM|MONOCHROME"


def check_words(image: OddImage, reason: str) -> None:
    """A refusal names the kind of file, and calls no sound one damaged."""
    assert image.kind != "sound", f"refused: {reason}"
    assert not re.search(JARGON, reason, re.IGNORECASE), reason
    assert len(reason) < 500
    if image.kind != "damaged":
        assert re.search(FORMATS, reason, re.IGNORECASE), f"the format is not named: {reason}"
        assert not re.search("damage|truncat|corrupt", reason, re.IGNORECASE), f"it is sound: {reason}"


def difference(image: OddImage, shown: "np.typing.NDArray[np.uint8]") -> float:
    """The largest, in levels of 255, from the pixels of which the file was made."""
    assert image.pixels is not None
    expected = np.atleast_3d(image.pixels).transpose(2, 0, 1)
    return float(np.abs(shown - np.broadcast_to(expected, shown.shape).astype(np.float64)).max())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("image", ODD, ids=lambda image: image.name)
def test_the_decoder(image: OddImage, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / image.name
    file.write_bytes(image.content)
    # At the file's own size nothing is resized.
    height, width = (HEIGHT, WIDTH) if image.pixels is None else image.pixels.shape[:2]
    try:
        shown = read_image(file, height=height, width=width, window=image.window)
    except InputError as error:
        check_words(image, str(error))
    else:
        assert image.kind != "unsupported"
        if image.kind != "damaged":
            assert difference(image, shown) <= image.tolerance
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def write_files(folder: Path) -> None:
    folder.mkdir()
    for image in ODD:
        (folder / image.name).write_bytes(image.content)


def read_rows(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of predictions by the name of the file."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as table:
        return {Path(row["path"]).name: row for row in csv.DictReader(table)}


@dataclass(frozen=True)
class Judged:
    """The output of the commands for all odd images."""

    predict: Done
    rows: dict[str, dict[str, str]]
    audit: Done
    findings: dict[str, set[str]]


@pytest.fixture(scope="module")
def judged(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    home = tmp_path_factory.mktemp("odd")
    checkpoint = save_untrained(home / "model.ckpt", backbone="test_resnet")
    write_files(home / "photos")
    manifest = "".join(f"photos/{image.name},good\n" for image in ODD)
    (home / "odd.csv").write_text("path,label\n" + manifest)
    environment = {"WELDNET_CACHE": str(home / "cache")}
    typed = (f"ckpt_path={checkpoint}", "source=odd.csv", "output_dir=out")
    predict = forks.run(home, "predict", *typed, environment=environment)
    data = ("data=manifest", "data.manifest=odd.csv", "data.groups=per_image", "output_dir=audit")
    audit = forks.run(home, "audit", *data, environment=environment)
    findings: dict[str, set[str]] = {}
    for finding in json.loads((home / "audit" / "audit.json").read_text())["findings"]:
        for path in finding["paths"]:
            findings.setdefault(os.path.basename(path), set()).add(finding["kind"])
    return Judged(predict, read_rows(home / "out"), audit, findings)


def test_the_commands_end_well(judged: Judged) -> None:
    for done in (judged.predict, judged.audit):
        assert (done.code, done.over) == (1, ""), done.err
        assert "Traceback" not in done.err
        assert done.growth_mb < 1000


def test_no_photograph_of_a_folder_is_lost(forks: ForkServer, tmp_path: Path) -> None:
    """The content decides, not the ending."""
    write_files(tmp_path / "photos")
    checkpoint = save_untrained(tmp_path / "model.ckpt", backbone="test_resnet")
    done = forks.run(tmp_path, "predict", f"ckpt_path={checkpoint}", "source=photos", "output_dir=out")
    assert done.code == 1, done.err
    # What damage or an unknown coding has made of a file need not be an image any more.
    assert {image.name for image in ODD if image.kind == "sound"} <= read_rows(tmp_path / "out").keys()


def test_one_line_on_stderr_for_a_bad_file(judged: Judged) -> None:
    """Libraries write nothing there."""
    names = {image.name for image in ODD}
    for done in (judged.predict, judged.audit):
        # The checkpoint is untrained, which weldnet-predict warns of.
        lines = [line for line in done.err.splitlines() if not re.search("could not be read|not calibrated", line)]
        unnamed = [line for line in lines if not any(name in line for name in names)]
        assert unnamed == []
        named = Counter(name for line in lines for name in names if re.search(rf"\b{name}\b", line))
        assert max(named.values(), default=0) <= 1, named.most_common(3)


@pytest.mark.parametrize("image", DAMAGED, ids=lambda image: image.name)
def test_damage_is_reported(image: OddImage, judged: Judged) -> None:
    """A damaged file gets no verdict but refer, and the audit names it."""
    row = judged.rows[image.name]
    assert row["error"] or (row["damaged"] == "true" and row["verdict"] in ("refer", "")), row
    assert judged.findings.get(image.name, set()) & {"unreadable", "damaged"}, "not found by the audit"


@pytest.mark.parametrize("image", SOUND, ids=lambda image: image.name)
def test_sound_files_are_not_reported_as_damaged(image: OddImage, judged: Judged) -> None:
    row = judged.rows[image.name]
    assert not row["error"], row["error"]
    assert row.get("damaged") in (None, "false"), "flagged as damaged"
    assert not judged.findings.get(image.name, set()) & {"unreadable", "damaged"}


def test_a_huge_transparent_picture_takes_little_memory(forks: ForkServer, tmp_path: Path) -> None:
    """As many pixels as are allowed, in a file of half a megabyte."""
    width, height = 9000, 9900
    header = make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    packer, row = zlib.compressobj(1), b"\0" + bytes([90, 120, 150, 200]) * width
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    chunks = header + make_chunk(b"IDAT", data) + make_chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    checkpoint = save_untrained(tmp_path / "model.ckpt", backbone="test_resnet")
    done = forks.run(tmp_path, "predict", f"ckpt_path={checkpoint}", "source=huge.png")
    assert done.code in (0, 1), done.err
    assert done.growth_mb < 800


def test_copies_that_other_programs_make_are_no_photographs(forks: ForkServer, tmp_path: Path) -> None:
    photos, image = tmp_path / "photos", next(image for image in SOUND if image.name == "jpeg_baseline")
    names = (
        "a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".thumbnails/a.jpg",
        "__MACOSX/._a.jpg",
        "._a.jpg",
        "Thumbs.db",
    )
    for name in names:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(image.content)
    checkpoint = save_untrained(tmp_path / "model.ckpt", backbone="test_resnet")
    done = forks.run(tmp_path, "predict", f"ckpt_path={checkpoint}", "source=photos", "output_dir=out")
    assert done.code == 0, done.err
    assert read_rows(tmp_path / "out").keys() == {"a.jpg"}
