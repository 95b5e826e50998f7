"""Files that are damaged, or were made to do harm."""

import os
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_noise
from encoding import RAMP, assert_shows, encode, make_chunk, make_dicom, make_tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.pictures import UnreadableImage


def test_endless_and_circular_pages() -> None:
    pixels = draw_noise(8, 6)[..., 0]
    assert open_picture(make_tiff(pixels, following=8)).pages == 1
    assert open_picture(make_tiff(pixels, following=2**32 - 1)).pages == 2
    start = len(make_tiff(pixels))
    chain = b"".join(struct.pack("<HI", 0, start + 6 * page) for page in range(1, 100_000))
    picture = open_picture(make_tiff(pixels, following=start) + chain)
    assert picture.pages == 10_000
    assert_shows(picture, pixels)


def test_damaged_exif_is_passed_over_in_every_thread() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than four bytes"
    content = bytearray(encode(Image.fromarray(draw_noise(24, 20)), "JPEG", exif=exif))
    # Its length, in a tag of the type text.
    place = content.index(struct.pack(">HH", 0x010E, 2)) + 4
    content[place : place + 4] = b"\xff" * 4
    with ThreadPoolExecutor(8) as pool:
        assert all(picture.size == (20, 24) for picture in pool.map(open_picture, [bytes(content)] * 64))


def claim(content: bytes, place: int, layout: str) -> bytes:
    """The file with its width and height, side by side at `place`, replaced by 30,000 each."""
    claimed = struct.pack(layout, 30_000, 30_000)
    return content[:place] + claimed + content[place + len(claimed) :]


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "JPEG"])
def test_claimed_size_is_refused(name: str) -> None:
    content = encode(Image.fromarray(draw_noise(24, 20)), name)
    if name == "PNG":
        header = claim(content[12:29], 4, ">II")
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    elif name == "TIFF":
        content = make_tiff(draw_noise(24, 20)[..., 0])
        for tag, side in ((256, 20), (257, 24)):
            entry = struct.pack("<HHI", tag, 3, 1)
            content = content.replace(entry + struct.pack("<I", side), entry + struct.pack("<I", 30_000))
    else:
        content = claim(content, 18, "<II") if name == "BMP" else claim(content, content.index(b"\xff\xc0") + 5, ">HH")
    with pytest.raises(UnreadableImage, match="30000 x 30000 pixels; allowed are 1 to 89,478,485 in all"):
        open_picture(content)


def test_webp_with_a_huge_canvas() -> None:
    canvas = (16383).to_bytes(3, "little") * 2
    frame = encode(Image.fromarray(draw_noise(24, 20)), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + frame
    with pytest.raises(UnreadableImage):
        open_picture(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize("progressive", [True, False])
def test_many_scans(progressive: bool) -> None:
    image, exif = Image.fromarray(draw_noise(64, 48)), Image.Exif()
    exif[0x010E] = "\xff\xda" * 200
    content = encode(image, "JPEG", progressive=progressive, exif=exif, comment=b"\xff\xda" * 200)
    scan = content[content.rindex(b"\xff\xda") : -2]
    film = b"\xff\xda\0\0" * 200
    assert open_picture(content + film).size == (48, 64)
    for end in (b"\xff\xd9", b"", b"\xff", b"\xff\xda\xff"):
        with pytest.raises(UnreadableImage, match=r"a JPEG with 1[0-9][0-9] scans; at most 100 are read"):
            open_picture(content[:-2] + scan * 100 + end)


def test_swollen_metadata() -> None:
    picture = encode(Image.fromarray(draw_noise(24, 20)), "PNG")
    text = make_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 * 2**20)))
    # It is never unpacked.
    tracemalloc.start()
    assert_shows(open_picture(picture[:33] + text + picture[33:]), draw_noise(24, 20))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with pytest.raises(UnreadableImage, match="60,000 tags"):
        open_picture(b"II*\0" + struct.pack("<IH", 8, 60_000) + bytes(60_000 * 12))
    with pytest.raises(UnreadableImage):
        open_picture(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**63) + bytes(1000))


@pytest.mark.filterwarnings("error")
@settings(max_examples=1000, deadline=2000)
@given(st.sampled_from(["PNG", "BMP", "TIFF", "JPEG", "WEBP", "DICOM"]), st.randoms(use_true_random=False))
def test_any_damage_is_reported(name: str, random: Any) -> None:
    """A damaged file gives a picture or one line with the reason; nothing else."""
    image = Image.fromarray(draw_noise(12, 10)[..., 0])
    content = bytearray(make_dicom(np.asarray(image)) if name == "DICOM" else encode(image, name))
    for _ in range(random.randint(1, 5)):
        content[random.randrange(min(len(content), 500))] = random.randrange(256)
    reason = "."
    try:
        open_picture(bytes(content), window=random.choice(["full", "percentile", (10.0, 100.0)]))
    except UnreadableImage as error:
        reason = str(error)
    assert 0 < len(reason) < 250
    assert "\n" not in reason


def test_content_decides_not_the_ending(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(make_dicom(RAMP))
    assert open_picture(read_content(tmp_path / "a.jpg")).format == "DICOM"


def test_read_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_content(tmp_path / "a") == b"abc"
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30 + 1)  # a hole; nothing is written
    reasons = {
        "none": "no such file",
        "fifo": "not a regular file",
        "large": "the limit is 1,073,741,824",
        "a/b": "not a",
    }
    for name, reason in (reasons | {".": "a folder"}).items():
        with pytest.raises(UnreadableImage, match=reason):
            read_content(tmp_path / name)


def test_forbidden_file(as_nobody: Path) -> None:
    (as_nobody / "a").touch(mode=0o000)
    with pytest.raises(UnreadableImage, match="permission denied"):
        read_content(as_nobody / "a")
