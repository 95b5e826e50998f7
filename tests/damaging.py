"""Files that were damaged on their way, and sound ones that look a little like it."""

import base64
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from drawing import draw_blobs, draw_noise
from encoding import encode, make_chunk
from PIL import Image

SIZE = (120, 160)
"""Width and height of the pictures."""


def draw_weld(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Smooth, with the noise of a sensor."""
    noise = np.random.default_rng(seed).normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(draw_blobs(size[1], size[0], seed) * 0.7 + 40 + noise, 0, 255).astype(np.uint8))


def draw_black(size: tuple[int, int] = (1200, 900)) -> Image.Image:
    """A radiograph: black, but for a noisy strip."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[size[1] // 3 : size[1] // 3 + 40] = draw_noise(40, size[0])
    return Image.fromarray(pixels)


def find_data(content: bytes) -> tuple[int, int]:
    """Where the compressed data of a JPEG, PNG or WebP start and end, about."""
    if content.startswith(b"\xff\xd8"):
        return content.index(b"\xff\xda") + 14, len(content) - 2
    if content.startswith(b"RIFF"):
        return 60, len(content)
    return content.index(b"IDAT") + 6, content.index(b"IEND") - 12


def zero(content: bytes, share: float = 0.5, length: int | None = None) -> bytes:
    """Zeros in the middle of the compressed data; `share` of them, or `length` bytes."""
    start, end = find_data(content)
    length = length or int(share * (end - start))
    start = (start + end - length) // 2
    return content[:start] + bytes(length) + content[start + length :]


def zero_half(content: bytes) -> bytes:
    """As a copy leaves it that stopped half-way in a file of full length; its end is there."""
    start, end = find_data(content)
    middle = (start + end) // 2
    return content[:middle] + bytes(end - middle) + content[end:]


def zero_first_frame(content: bytes) -> bytes:
    """A film whose first picture has lost its second half."""
    start = content.index(b"VP8 ") + 8
    length = int.from_bytes(content[start - 4 : start], "little") // 2
    return content[: start + length] + bytes(length) + content[start + 2 * length :]


def lose(content: bytes, length: int = 512) -> bytes:
    """Without some bytes in the middle."""
    start, end = find_data(content)
    middle = (start + end) // 2
    return content[:middle] + content[middle + length :]


def scramble(content: bytes, length: int = 512) -> bytes:
    """Other bytes in the middle."""
    start, end = find_data(content)
    middle = (start + end) // 2
    noise = np.random.default_rng(5).integers(0, 255, length, np.uint8).tobytes()
    return content[:middle] + noise + content[middle + length :]


def break_sum(content: bytes, chunk: bytes) -> bytes:
    """A PNG in which the last check sum of a kind of chunk is wrong."""
    start = content.rindex(chunk)
    end = start + 4 + int.from_bytes(content[start - 4 : start], "big")
    return content[:end] + bytes(byte ^ 255 for byte in content[end : end + 4]) + content[end + 4 :]


def insert(content: bytes, chunk: bytes) -> bytes:
    """A PNG with one chunk more, behind its header."""
    return content[:33] + chunk + content[33:]


def make_jpeg(image: Image.Image | None = None, *, segment: bytes = b"", **options: Any) -> bytes:
    """A JPEG, whose JFIF segment is replaced by `segment` if there is one."""
    content = encode(image or draw_weld(), "JPEG", **({"quality": 90} | options))
    return content[:2] + segment + content[20:] if segment else content


def make_even(draw: Callable[[], Image.Image], *, grey: bool, **options: Any) -> bytes:
    return make_jpeg(draw().convert("L") if grey else draw(), **options)


def add_chunk(kind: bytes, data: bytes, *, is_whole: bool) -> bytes:
    """A PNG with a chunk of metadata, with its check sum or a different one."""
    chunk = make_chunk(kind, data)
    return insert(encode(draw_weld(), "PNG"), chunk if is_whole else chunk[:-4] + b"sum!")


def make_clear_png() -> bytes:
    image = Image.new("P", SIZE, 1)
    image.putpalette(bytes(range(30)) * 2)
    return encode(image, "PNG", transparency=3)


DAMAGED: dict[str, Callable[[], bytes]] = {
    "zeros.jpg": lambda: zero(make_jpeg()),
    "half.jpg": lambda: zero_half(make_jpeg()),
    "64_zeros.jpg": lambda: zero(make_jpeg(), length=70),
    "lost.jpg": lambda: lose(make_jpeg()),
    "scrambled.jpg": lambda: scramble(make_jpeg()),
    "grey.jpg": lambda: zero(make_jpeg(draw_weld().convert("L"))),
    "444.jpg": lambda: zero(make_jpeg(subsampling=0)),
    "optimized.jpg": lambda: zero(make_jpeg(optimize=True)),
    "progressive.jpg": lambda: zero(make_jpeg(progressive=True)),
    "restarts.jpg": lambda: zero(make_jpeg(restart_marker_rows=1)),
    "cmyk.jpg": lambda: lose(make_jpeg(draw_weld().convert("CMYK"))),
    "large.jpg": lambda: zero(make_jpeg(draw_weld((1280, 960)))),
    "sum.png": lambda: break_sum(encode(draw_weld(), "PNG"), b"IDAT"),
    "grey_sum.png": lambda: break_sum(encode(draw_weld().convert("L"), "PNG"), b"IDAT"),
    "end_sum.png": lambda: break_sum(encode(draw_weld(), "PNG"), b"IEND"),
    "no_end.png": lambda: encode(draw_weld(), "PNG")[:-12],
    "header_sum.png": lambda: break_sum(encode(draw_weld(), "PNG"), b"IHDR"),
    "palette_sum.png": lambda: break_sum(make_clear_png(), b"PLTE"),
    "transparency_sum.png": lambda: break_sum(make_clear_png(), b"tRNS"),
    "half.webp": lambda: zero_half(encode(draw_weld(), "WEBP", quality=90)),
    "zeros.webp": lambda: zero(encode(draw_weld(), "WEBP", quality=90), length=300),
    "lossless.webp": lambda: zero_half(encode(draw_weld(), "WEBP", lossless=True)),
    "alpha.webp": lambda: zero_half(encode(draw_weld().convert("RGBA"), "WEBP", quality=90)),
    "film.webp": lambda: zero_first_frame(
        encode(draw_weld(), "WEBP", save_all=True, append_images=[draw_weld(seed=1)])
    ),
}
"""Files whose pixels can still be decoded, and are wrong."""


def make_camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Weldcam", "W-1"
    # A maker note and a preview, padded as cameras do.
    exif.get_ifd(0x8769)[0x927C] = b"Weldcam\0" + bytes(2000)
    exif.get_ifd(0x8769)[0x9286] = make_jpeg(draw_weld((40, 30))) + bytes(500)
    return exif


ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqm"
    "x5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/yQARCAAQABgD"
    "ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwDQyLoYNfvXJ/19yLNdrVd4QS+G2s0WN2wOIrmEPSt/5E9LRSOQddfiDhZoSPdyOvBT"
    "mVlWCfMOocD/2Q=="
)
"""Written by libjpeg-turbo's cjpeg -arithmetic; Pillow writes neither this nor the next."""
THREE_TO_ONE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqm"
    "x5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAQABgD"
    "ATEAAhEBAxEB/8QAFgAAAwAAAAAAAAAAAAAAAAAAAwQF/8QAGhAAAgMBAQAAAAAAAAAAAAAAAQIAAxESBP/EABUBAQEAAAAAAAAAAAAAAAAAAAMC"
    "/8QAGxEAAQUBAQAAAAAAAAAAAAAAAAECAxITESH/2gAMAwEAAhEDEQA/AG08iod7EO9ihOdk+3z9toMPTZ9FCmZWP0Hba6rvRiSexzbmytQe0Bhy"
    "L1NEIndsy5//2Q=="
)

SOUND: dict[str, Callable[[], bytes]] = {
    "420.jpg": make_jpeg,
    "422.jpg": lambda: make_jpeg(subsampling=1),
    "444.jpg": lambda: make_jpeg(subsampling=0),
    "grey.jpg": lambda: make_jpeg(draw_weld().convert("L")),
    "progressive.jpg": lambda: make_jpeg(progressive=True),
    "optimized.jpg": lambda: make_jpeg(optimize=True),
    "restarts.jpg": lambda: make_jpeg(restart_marker_blocks=3),
    "coarse.jpg": lambda: make_jpeg(draw_weld((800, 600)), quality=5, optimize=True),
    "exif_with_thumbnail.jpg": lambda: make_jpeg(exif=make_camera_exif()),
    "two_pictures.jpg": lambda: encode(draw_weld(), "MPO", save_all=True, append_images=[draw_weld(seed=1)]),
    "film_behind.jpg": lambda: make_jpeg() + bytes(4000) + b"ftypmp42" + bytes(4000),
    "filled_before_its_end.jpg": lambda: make_jpeg()[:-2] + b"\xff" * 300 + b"\xff\xd9",
    "colour_profile.jpg": lambda: make_jpeg(icc_profile=bytes(70_000)),
    "comment.jpg": lambda: make_jpeg(comment=bytes(500)),
    "cmyk.jpg": lambda: make_jpeg(draw_weld().convert("CMYK")),
    "one_pixel.jpg": lambda: make_jpeg(Image.new("RGB", (1, 1))),
    "narrow.jpg": lambda: make_jpeg(draw_weld((1, 500))),
    "arithmetic.jpg": lambda: base64.b64decode(ARITHMETIC),
    "three_to_one.jpg": lambda: base64.b64decode(THREE_TO_ONE),
    **{
        f"{name}_{'_'.join(options) or 'plain'}{'_grey' * grey}.jpg": (
            partial(make_even, draw, grey=grey, **dict.fromkeys(options, True))
        )
        for name, draw in (("black", draw_black), ("white", lambda: Image.new("RGB", (1200, 900), "white")))
        for options in ((), ("optimize",), ("progressive",))
        for grey in (False, True)
    },
    "rgb.png": lambda: encode(draw_weld(), "PNG"),
    "black.png": lambda: encode(draw_black(), "PNG"),
    "palette.png": make_clear_png,
    "film.png": lambda: encode(draw_weld(), "PNG", save_all=True, append_images=[draw_weld(seed=1)]),
    "zeros_behind.png": lambda: encode(draw_weld(), "PNG") + bytes(500),
    "lossy.webp": lambda: encode(draw_weld(), "WEBP"),
    "lossless.webp": lambda: encode(draw_weld(), "WEBP", lossless=True),
    "fast.webp": lambda: encode(draw_weld(), "WEBP", lossless=True, method=0, quality=0),
    "black.webp": lambda: encode(draw_black(), "WEBP"),
    "black_lossless.webp": lambda: encode(draw_black(), "WEBP", lossless=True),
    "black_fast.webp": lambda: encode(draw_black(), "WEBP", lossless=True, method=0, quality=0),
    "alpha.webp": lambda: encode(Image.new("RGBA", (900, 900)), "WEBP"),
    "film.webp": lambda: encode(draw_weld(), "WEBP", save_all=True, append_images=[draw_weld(seed=1)]),
    "rgb.bmp": lambda: encode(draw_weld(), "BMP"),
}
"""Sound files of many cameras and programs, those with zeros in them first of all."""

NO_EXIF = (b"garbage", b"Exif\0\0MM", b"MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff")

BROKEN_METADATA: dict[str, Callable[[], bytes]] = {
    **{
        f"exif_{number}.{ending}": partial(encode, draw_weld(), name, exif=exif)
        for number, exif in enumerate(NO_EXIF)
        for ending, name in (("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG"))
    },
    **{
        f"app_{number}.jpg": partial(make_jpeg, segment=segment)
        for number, segment in enumerate(
            (
                *(b"\xff\xe0\0\7JFIF\0", b"\xff\xe0\0\6JFIF", b"\xff\xee\0\7Adobe", b"\xff\xe2\0\x0eICC_PROFILE\0"),
                *(b"\xff\xe0\0\7JFIF\0\xff\xe1\0\x08Exif\0\0", b"\xff\xed\0\x15Photoshop 3.0\x008BIMa"),
            )
        )
    },
    **{
        f"{kind.decode()}_{'' if is_whole else 'un'}summed.png": (partial(add_chunk, kind, data, is_whole=is_whole))
        for kind, data in (
            *((b"pHYs", b"abc"), (b"gAMA", b"a"), (b"sRGB", b""), (b"cHRM", b"abc"), (b"tIME", b"a"), (b"eXIf", b"x")),
            *((b"iCCP", b"abc"), (b"zTXt", b"a\0\5abc"), (b"iTXt", b"abc"), (b"acTL", b"abc"), (b"fcTL", b"abc")),
        )
        for is_whole in (True, False)
        if is_whole is False or kind not in (b"acTL", b"fcTL")
    },
    "swollen.png": lambda: insert(
        encode(draw_weld(), "PNG"), make_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 * 2**20)))
    ),
}
"""Sound pictures beside metadata that cannot be read."""


def make_frame(marker: int, bits: int = 8) -> bytes:
    """A JPEG whose frame header names a different kind."""
    frame = b"\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, bits, 16, 16, 1) + b"\1\x11\0"
    return b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(40) + b"\xff\xd9"


FOREIGN = {
    "twelve.jpg": (make_frame(0xC1, 12), "a JPEG of 12 bits a channel"),
    "lossless.jpg": (make_frame(0xC3), "a lossless JPEG"),
    "hierarchical.jpg": (make_frame(0xC5), "a hierarchical JPEG"),
    "ls.jpg": (make_frame(0xF7), "a JPEG-LS image"),
    "xl.jpg": (b"\xff\x0a" + bytes(60), "a JPEG XL file"),
    "xl_box.jpg": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "a JPEG XL file"),
    "2000.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "a JPEG 2000 file"),
    "2000_stream.jpg": (b"\xff\x4f\xff\x51" + bytes(60), "a JPEG 2000 file"),
    "heic.jpg": (b"\0\0\0\x18ftypheic" + bytes(60), "an HEIC or AVIF file"),
    "gif.jpg": (b"GIF89a" + bytes(60), "a GIF"),
}
"""Kinds of pictures that are not read, and their names."""
