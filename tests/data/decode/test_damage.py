"""Damaged files are found, sound ones are not taken for damaged, and what cannot be read is named."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaging import BROKEN_METADATA, DAMAGED, FOREIGN, SOUND, draw_weld, make_jpeg
from encoding import encode
from PIL import Image, JpegImagePlugin

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.decode.pictures import UnreadableImage


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_found(name: str) -> None:
    content = DAMAGED[name]()
    assert open_picture(content).damage
    # Decoded at a fraction of its size, too.
    with pytest.raises(UnreadableImage, match=r"^damaged: "):
        to_geometry(content, Geometry(40, 30))
    assert to_geometry(content, Geometry(40, 30), even_damaged=True)[1].damage


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_not_flagged(name: str) -> None:
    content = SOUND[name]()
    picture = open_picture(content)
    assert picture.damage is None
    assert to_geometry(content, Geometry(8, 8))[1].damage is None
    if name.endswith(".jpg"):
        with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as image:
            wanted = image if image.mode == "L" else image.convert("RGB")
            assert (np.asarray(picture.image) == np.asarray(wanted)).all()


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_reduced_jpeg_is_pillows(scale: int, options: dict[str, Any], mode: str) -> None:
    content = make_jpeg(draw_weld((320, 480)).convert(mode), **options)
    picture = open_picture(content, least=(80 // scale, 120 // scale))
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as image:
        size = picture.image.size
        image.draft(None, size)
        assert (np.asarray(picture.image) == np.asarray(image)).all()
    assert size[0] == 320 // scale


@pytest.mark.parametrize("name", BROKEN_METADATA)
def test_metadata_that_cannot_be_read_are_ignored(name: str) -> None:
    picture = open_picture(BROKEN_METADATA[name]())
    assert picture.damage is None
    kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.rpartition(".")[2]]
    options = {"quality": 90} if name.startswith("app") else {}
    assert (np.asarray(picture.image) == np.asarray(open_picture(encode(draw_weld(), kind, **options)).image)).all()


def test_the_turn_survives_a_broken_segment() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = make_jpeg(exif=exif, segment=b"\xff\xe0\0\7JFIF\0")
    assert open_picture(content).image.size == draw_weld().size[::-1]


@pytest.mark.parametrize("name", FOREIGN)
def test_other_kinds_are_named(name: str) -> None:
    content, kind = FOREIGN[name]
    with pytest.raises(UnreadableImage, match=kind) as caught:
        open_picture(content)
    assert "convert it to PNG or TIFF" in str(caught.value)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_library_is_never_quoted(name: str, share: float) -> None:
    content = encode(draw_weld(), name)
    with pytest.raises(UnreadableImage) as caught:
        open_picture(content[: int(share * len(content))])
    assert str(caught.value).startswith((f"this {name} cannot be decoded", "not a JPEG", "the file is empty"))


PEAK = """
import resource, sys
from pathlib import Path
from weldnet.data.decode.formats import open_picture

start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = Path(sys.argv[1]).read_bytes()
assert open_picture(content).image.size == (9400, 9400)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "most"), [("RGB", 400), ("LA", 500), ("RGBA", 800), ("P", 550)])
def test_memory_near_the_limit_of_pixels(tmp_path: Path, mode: str, most: int) -> None:
    """A Pillow picture of 88 million pixels has 88 or 353 MB."""
    transparency = {"transparency": 3} if mode == "P" else {}
    Image.new(mode, (9400, 9400)).save(tmp_path / "a.png", **transparency)  # type: ignore[arg-type]
    command = [sys.executable, "-c", PEAK, str(tmp_path / "a.png")]
    assert float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < most


def test_transparency_is_laid_over_black_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_weld().convert("RGBA")
    image.putalpha(draw_weld(seed=1).convert("L"))
    for mode in ("RGBA", "LA"):
        content = encode(image.convert(mode), "PNG")
        whole = np.asarray(open_picture(content).image)
        monkeypatch.setattr("weldnet.data.decode.formats._STRIP", 1000)
        assert (np.asarray(open_picture(content).image) == whole).all()
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        expected = np.asarray(Image.alpha_composite(black, image.convert(mode).convert("RGBA")).convert("RGB"))
        assert (whole if whole.ndim == 3 else whole[..., None]).tolist() == (
            expected if mode == "RGBA" else expected[..., :1]
        ).tolist()
