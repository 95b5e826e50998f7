"""Signs that a PNG or a WebP was damaged, and the words for a file that no decoder reads."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import imagecodecs
import numpy as np
from PIL import Image

from weldnet.data.decode.pictures import UnreadableImage

MIN_ZEROS = 64
"""Bytes of zero in a row that compressed data hold by accident only: a disk or a copy that lost them."""

_ZEROS = re.compile(rb"\0{%d,}" % MIN_ZEROS)

# What libraries raise for a damaged file; the second row is for fields of the wrong type or size.
READER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, struct.error, imagecodecs.TiffError),
)

# Those that change the picture, and those that are kept only where they are whole: the turn, the number of pictures.
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_FACTS = {b"eXIf", b"acTL", b"fcTL"}
_PNG_START = 8


@contextmanager
def blame_file(name: str) -> Iterator[None]:
    """Raises a library's refusal of a file in our words. Within it, nothing but the library may be called."""
    try:
        yield
    except UnreadableImage:
        raise
    except READER_ERRORS as error:
        raise UnreadableImage(
            f"this {name} cannot be decoded: it is damaged or cut off, or of a kind that is not supported; if another "
            "program shows it, save it there as PNG"
        ) from error


def check_png(content: bytes) -> tuple[bytes, str | None]:
    """Compares the check sum of every chunk: the PNG to decode, and the sign that it was damaged.

    A chunk that does not change the picture is removed: text, colour profiles and the like can be damaged, or be far
    larger than they look. The sums of the others are corrected, so that what is left of the picture is decoded.
    """
    kept: list[bytes | memoryview] = [content[:_PNG_START]]
    damaged: list[str] = []
    start, view, is_changed = _PNG_START, memoryview(content), False
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        kind, total = content[start + 4 : start + 8], zlib.crc32(view[start + 4 : end - 4])
        is_whole = total == int.from_bytes(content[end - 4 : end], "big") and end <= len(content)
        if kind in _PNG_PIXELS or (kind in _PNG_FACTS and is_whole):
            kept += view[start : end - 4], total.to_bytes(4, "big")
            if not is_whole:
                damaged.append(kind.decode())
        else:
            is_changed = True
        start = end
        if kind == b"IEND":
            break
    else:
        damaged.append("IEND")
    # Most have nothing else: a copy would cost them time.
    if not (damaged or is_changed):
        return content, None
    return b"".join(kept), f"its {damaged[0]} chunk is damaged or missing" if damaged else None


def check_webp(content: bytes, image: Image.Image) -> str | None:
    """Looks for lost bytes in the first picture's compressed data, which have no check sum.

    Some zeros can be sound: an even area costs next to no bits. They are damage where there are more of them than the
    picture, `image`, has even area for (measured: `docs/guide.md`, Damaged files).
    """
    kind, data = _find_webp_data(content)
    longest = max(map(len, _ZEROS.findall(data)), default=0)
    pixels = image.width * image.height
    if kind == b"VP8L":
        is_sound = longest <= MIN_ZEROS + pixels // 512 or 2 * longest <= _find_even(image)
    else:
        is_sound = longest <= MIN_ZEROS + pixels // 4096
    return None if longest < MIN_ZEROS or is_sound else f"{longest:,} bytes of its compressed data are zero"


def _find_webp_data(content: bytes) -> tuple[bytes, bytes]:
    """Kind and data of the first picture's chunk; of a film, that of its first frame."""
    start = 12
    while start + 8 <= len(content):
        kind, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind, content[start + 8 : start + 8 + size]
        # A frame has a header, and then chunks.
        start += 8 + (16 if kind == b"ANMF" else size + size % 2)
    return b"", b""


def _find_even(image: Image.Image) -> int:
    """The longest run of equal pixels, row after row."""
    pixels = np.asarray(image).reshape(image.width * image.height, -1)
    changes = np.flatnonzero((pixels[1:] != pixels[:-1]).any(1))
    return int(np.diff(changes, prepend=-1, append=len(pixels) - 1).max())
