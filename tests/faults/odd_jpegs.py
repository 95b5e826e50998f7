"""JPEG files as cameras write them, with harmless faults, with coding that few readers know, and damaged."""

import io
import struct
from typing import Any

import numpy as np
from encoding import encode
from odd_image import COLOUR, GREY, OddImage
from PIL import Image, ImageOps

_START, _END = b"\xff\xd8", b"\xff\xd9"


def make_jpegs() -> list[OddImage]:
    return [*_cameras(), *_segments(), *_codings(), *_damaged()]


def encode_jpeg(**options: Any) -> bytes:
    return encode(Image.fromarray(COLOUR), "JPEG", **{"quality": 90, **options})


def make_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def make_lossless(height: int, width: int) -> bytes:
    """A lossless JPEG (SOF3) of one grey value, 128: every difference is 0, the only code, of one bit."""
    frame = make_segment(0xC3, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0))
    table = make_segment(0xC4, bytes([0, 1, *[0] * 15, 0]))
    scan = make_segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    return _START + frame + table + scan + bytes(height * width // 8) + _END


def _decode(content: bytes) -> Any:
    """The reference: Pillow's own reading of a file without fault."""
    with Image.open(io.BytesIO(content)) as image:
        turned = ImageOps.exif_transpose(image)
        return np.asarray(turned if turned.mode == "L" else turned.convert("RGB"))


def _insert(content: bytes, segments: bytes) -> bytes:
    """Behind the first marker."""
    return content[:2] + segments + content[2:]


def _cameras() -> list[OddImage]:
    base = encode_jpeg()
    exif = Image.Exif()
    exif[0x010F], exif[0x927C] = "Maker", b"\0maker note \xff\xd8\xff\xd9" * 40
    grey = encode(Image.fromarray(GREY), "JPEG", quality=95)
    cmyk = encode(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95)
    files = {
        "baseline": base,
        "grey": grey,
        "progressive": encode_jpeg(progressive=True),
        "optimised": encode_jpeg(optimize=True),
        "subsampled": encode_jpeg(subsampling="4:2:0"),
        "restarts": encode_jpeg(restart_marker_blocks=2),
        "maker_note": encode_jpeg(exif=exif),
        "filled_markers": _insert(base, b"\xff\xff\xff"),
        "film_behind": base + b"\0\0\0\x18ftypmp42" + bytes(300) + _START + bytes(99),
        "second_picture": base + base,
        "padding_behind": base + bytes(2048),
        "comment": encode_jpeg(comment=b"\xff\xd9 end? \xff\xda"),
        "cmyk": cmyk,
    }
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"turned_{turn}"] = encode_jpeg(exif=exif)
    return [OddImage(f"jpeg_{name}", file, "sound", _decode(file), tolerance=2) for name, file in files.items()]


def _segments() -> list[OddImage]:
    """Short or senseless application segments: no pixel depends on them."""
    base = encode_jpeg()
    tiff = b"Exif\0\0MM\0*"
    files = {
        "short_app0": _insert(base, make_segment(0xE0, b"JFIF\0")),
        "short_exif": _insert(base, make_segment(0xE1, b"Exif\0\0")),
        "cut_exif": _insert(base, make_segment(0xE1, tiff + b"\0\0\0\x08\0\x40")),
        "wild_exif": _insert(base, make_segment(0xE1, tiff + b"\xff\xff\xff\xf0" + bytes(9))),
        "short_mpf": _insert(base, make_segment(0xE2, b"MPF\0")),
        "cut_mpf": _insert(base, make_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x03")),
        "short_profile": _insert(base, make_segment(0xE2, b"ICC_PROFILE\0")),
        "short_photoshop": _insert(base, make_segment(0xED, b"Photoshop 3.0\x008BIM\x04")),
        "cut_photoshop": _insert(base, make_segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10\0")),
        "empty_segments": _insert(base, b"".join(make_segment(0xE0 + number, b"") for number in range(14))),
    }
    return [OddImage(f"jpeg_{name}", file, "sound", _decode(base), tolerance=2) for name, file in files.items()]


def _codings() -> list[OddImage]:
    # The tables and scan of 8 bits are as good for 12; only the values mean something else.
    base = encode(Image.fromarray(GREY), "JPEG")
    place = base.index(b"\xff\xc0")
    twelve = base[:place] + b"\xff\xc1" + base[place + 2 : place + 4] + b"\x0c" + base[place + 5 :]
    return [
        OddImage("jpeg_12_bit", twelve, "unsupported"),
        OddImage("jpeg_lossless", make_lossless(*GREY.shape), "rare", np.full(GREY.shape, 128)),
        OddImage("jpeg_hierarchical", base[:place] + b"\xff\xc5" + base[place + 2 :], "unsupported"),
    ]


def _damaged() -> list[OddImage]:
    """Damage within the compressed data of a whole-looking file, its end marker included."""
    base = encode(Image.fromarray(COLOUR).resize((320, 480)), "JPEG", quality=95)
    progressive = encode(Image.fromarray(COLOUR).resize((320, 480)), "JPEG", quality=95, progressive=True)
    start, middle = base.index(b"\xff\xda") + 14, len(base) // 2
    third = (len(base) - start) // 3
    late = len(progressive) * 3 // 4
    files = {
        "zeros": base[:middle] + bytes(256) + base[middle + 256 :],
        "hole": base[: start + third] + base[start + 2 * third :],
        "cut_and_ended": base[: start + third] + _END,
        "stray_restart": base[:middle] + b"\xff\xd3" + base[middle + 2 :],
        "stray_marker": base[:middle] + b"\xff\xc4\0\x02" + base[middle + 4 :],
        "truncated": base[: start + third],
        "progressive_zeros": progressive[:late] + bytes(256) + progressive[late + 256 :],
        "progressive_cut": progressive[:late] + _END,
    }
    return [OddImage(f"jpeg_{name}", file, "damaged") for name, file in files.items()]
