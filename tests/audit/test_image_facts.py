"""What an audit keeps of a file."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drawing import draw_blobs, save_image
from PIL import Image

from weldnet.audit.facts import FACTS, read_facts


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    pixels = draw_blobs(40, 90) // 2 + 40
    pixels[:10], pixels[10:15] = 0, 255
    file = save_image(tmp_path / "in" / "a.png", pixels)
    turned = tmp_path / "in" / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
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
    assert (plain["format"], plain["mode"], plain["bits"], plain["pages"]) == ("PNG", "RGB", 8, 1)
    assert (plain["width"], plain["height"]) == (90, 40)
    assert (plain["black"], plain["white"]) == pytest.approx((0.25, 0.125), abs=0.01)
    assert plain["mean"] == pytest.approx(pixels.mean())
    assert plain["deviation"] == pytest.approx(pixels.reshape(-1, 3).std(axis=0).max())
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert (plain["shadows"], plain["lights"]) == pytest.approx(np.percentile(grey, [5, 95]), abs=1)
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert (plain["red"], plain["blue"]) == pytest.approx((red - green, blue - green))
    assert (upright["width"], upright["height"]) == (40, 90)
    assert (deep_grey["low"], deep_grey["high"], deep_grey["range"], deep_grey["bits"]) == (7, 4095, 65535, 16)
    assert "leaves" in leaving["reason"]
    assert "no such file" in gone["reason"]
    assert thumbnails.any(axis=(1, 2)).tolist() == [True, True, True, False, False]
