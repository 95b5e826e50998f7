"""What an audit keeps of a file."""

import hashlib
import io
import random
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from drawing import draw_blobs, save_image
from PIL import ExifTags, Image

from weldnet.audit.facts import FACTS, read_date, read_facts
from weldnet.data.decode.formats import open_picture


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    pixels = draw_blobs(40, 90) // 2 + 40
    pixels[:10], pixels[10:15] = 0, 255
    file = save_image(tmp_path / "in" / "a.png", pixels)
    turned = tmp_path / "in" / "turned.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2025:03:14 08:30:01"
    Image.fromarray(pixels).save(turned, exif=exif)
    deep = tmp_path / "in" / "deep.png"
    Image.fromarray(np.array([[7, 300], [4095, 9]], np.uint16)).save(deep)
    (tmp_path / "b.png").write_bytes(file.read_bytes())
    link = tmp_path / "in" / "link.png"
    link.symlink_to(tmp_path / "b.png")
    paths = pl.Series("path", [str(path) for path in (file, turned, deep, link, tmp_path / "gone.png")])
    table, thumbnails = read_facts(paths, "full", tmp_path / "in")
    assert table.schema == FACTS
    plain, upright, deep_grey, leaving, gone = table.to_dicts()
    assert plain["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (plain["format"], plain["bits"], plain["pages"]) == ("PNG", 8, 1)
    assert (plain["width"], plain["height"]) == (90, 40)
    assert (plain["black"], plain["white"]) == pytest.approx((0.25, 0.125), abs=0.01)
    assert plain["mean"] == pytest.approx(pixels.mean())
    assert plain["deviation"] == pytest.approx(pixels.reshape(-1, 3).std(axis=0).max())
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert (plain["shadows"], plain["lights"]) == pytest.approx(np.percentile(grey, [5, 95]), abs=1)
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert (plain["red"], plain["blue"]) == pytest.approx((red - green, blue - green))
    assert (upright["width"], upright["height"]) == (40, 90)
    assert [row["taken"] for row in table.to_dicts()] == [None, datetime(2025, 3, 14, 8, 30, 1), None, None, None]
    assert (deep_grey["low"], deep_grey["high"], deep_grey["range"], deep_grey["bits"]) == (7, 4095, 65535, 16)
    assert "leaves" in leaving["reason"]
    assert "no such file" in gone["reason"]
    assert thumbnails.any(axis=(1, 2)).tolist() == [True, True, True, False, False]


def write_exif(taken: Any, *, padding: int = 0) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * padding
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    return exif.tobytes()


def pass_through_file(exif: bytes) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "PNG", exif=exif)
    return open_picture(stream.getvalue()).exif


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_date_is_read_from_the_exif(tmp_path: Path, form: str) -> None:
    file = tmp_path / "a"
    Image.fromarray(draw_blobs(40, 90)).save(file, form, exif=write_exif("2025:03:14 08:30:01"))
    assert read_facts(pl.Series([str(file)]), "full")[0]["taken"].to_list() == [datetime(2025, 3, 14, 8, 30, 1)]


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        write_exif("    :  :     :  :  "),
        write_exif("0000:00:00 00:00:00"),
        write_exif("yesterday"),
        write_exif(7),
        Image.Exif().tobytes(),
        write_exif("2025:03:14 08:30:01", padding=2**16),
        # The directory of dates is the file's own first one, without end.
        b"II*\0" + struct.pack("<IHHHII", 8, 1, ExifTags.IFD.Exif, 4, 1, 8),
    ],
)
def test_without_a_date(exif: bytes) -> None:
    assert read_date(pass_through_file(exif)) is None


def test_a_damaged_exif_stops_nothing() -> None:
    rng, exif = random.Random(0), write_exif("2025:03:14 08:30:01")
    assert read_date(pass_through_file(exif)) is not None
    for _ in range(2000):
        damaged = bytearray(exif[: rng.randint(0, len(exif))])
        for _ in range(min(len(damaged), rng.randint(0, 4))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        read_date(pass_through_file(bytes(damaged)))
