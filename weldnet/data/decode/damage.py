"""Detects damage in PNG and WebP files, and turns a decoder's errors into `UnreadableImage`."""

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
"""Consecutive zero bytes: compressed data hardly ever hold so many, unless a disk or a copy lost what was there."""

_ZEROS = re.compile(rb"\0{%d,}" % MIN_ZEROS)

# What libraries raise for a damaged file; the second row is for fields of the wrong type or size.
READER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, struct.error, imagecodecs.TiffError),
)

# Chunks that change the pixels; chunks that are kept only if undamaged: orientation, number of frames.
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_FACTS = {b"eXIf", b"acTL", b"fcTL"}
_PNG_START = 8


@contextmanager
def blame_file(name: str) -> Iterator[None]:
    """Turns a library's errors about a file into `UnreadableImage`.

    Call nothing but the library inside, so that a bug of ours is not reported as a damaged file.
    """
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
    """Compares the checksum of every chunk; returns the PNG to decode, and what is damaged or None.

    Chunks that do not change the picture, such as text and colour profiles, are removed: they can be damaged, or
    decompress to a huge size. Wrong checksums of the others are corrected, so that what is left can be decoded.
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
    # Most files hold nothing else: save them the copy.
    if not (damaged or is_changed):
        return content, None
    return b"".join(kept), f"its {damaged[0]} chunk is damaged or missing" if damaged else None


def check_webp(content: bytes, image: Image.Image) -> str | None:
    """Finds runs of zero bytes in the first picture's compressed data, which have no checksum; None if it is sound.

    A run is no damage if the picture, `image`, has an area of one colour to match, since that compresses to zeros
    (limits measured: `docs/guide.md`, Damaged files).
    """
    kind, data = _find_webp_data(content)
    longest = max(map(len, _ZEROS.findall(data)), default=0)
    pixels = image.width * image.height
    if kind == b"VP8L":
        is_sound = longest <= MIN_ZEROS + pixels // 512 or 2 * longest <= _measure_uniform(image)
    else:
        is_sound = longest <= MIN_ZEROS + pixels // 4096
    return None if longest < MIN_ZEROS or is_sound else f"{longest:,} bytes of its compressed data are zero"


def _find_webp_data(content: bytes) -> tuple[bytes, bytes]:
    """Kind and data of the first picture's chunk; in an animation, of its first frame's."""
    start = 12
    while start + 8 <= len(content):
        kind, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind, content[start + 8 : start + 8 + size]
        # A frame has a header, and then chunks.
        start += 8 + (16 if kind == b"ANMF" else size + size % 2)
    return b"", b""


def _measure_uniform(image: Image.Image) -> int:
    """The length of the longest run of equal pixels, row after row."""
    pixels = np.asarray(image).reshape(image.width * image.height, -1)
    changes = np.flatnonzero((pixels[1:] != pixels[:-1]).any(1))
    return int(np.diff(changes, prepend=-1, append=len(pixels) - 1).max())
