"""Reads the segments of a JPEG, decodes it and reports damage.

Pillow ignores damage. simplejpeg uses the same libjpeg-turbo, gives the same pixels as fast, and raises where libjpeg
warns.
"""

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import simplejpeg
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from weldnet.data.decode.damage import MIN_ZEROS, blame_file
from weldnet.data.decode.pictures import Size, UnreadableImage

# A JPEG is decoded at a fraction of its size if that leaves this many pixels for each one that the caller needs, along
# each side and in area. Mean difference from a decode at full size on the worst of 270 weld photographs, in levels of
# 255: 2.8 with 1.5 pixels along both sides, 1.0 with 2.5, 0.7 with this rule.
_DRAFT_SIDE = 1.5
_DRAFT_AREA = 12

_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000
SCAN = 0xDA
_END, _TABLES, _EXIF, _ADOBE = 0xD9, 0xC4, 0xE1, 0xEE
_ADOBE_BYTES = 12
_WITHOUT_LENGTH = (0x01, 0xD8, _END)
_METADATA = {*range(0xE0, 0xF0), 0xFE} - {_EXIF}
_SEQUENTIAL = (0xC0, 0xC1)
_FRAME_KINDS = {
    **dict.fromkeys((*_SEQUENTIAL, 0xC2, 0xC9, 0xCA), ""),
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS image",
}
"""The marker of each frame header; the name of its kind if libjpeg does not decode that, else empty."""
# In a scan's data, FF begins no marker before 00 (a byte of data), D0 to D7 (a restart) or FF (padding).
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_LOST = "it has lost bytes: its compressed data hold zeros instead"
_ERRORS = "the decoder met errors in its compressed data"


class Segment(NamedTuple):
    """A marker; the offsets of the marker (`start`), of its own bytes (`body`) and of a scan's data (`end`)."""

    marker: int
    start: int
    body: int
    end: int


class Frame(NamedTuple):
    """A frame header: its marker and the pixels' format."""

    marker: int
    bits: int
    height: int
    width: int
    channels: int


def read_segments(content: bytes) -> list[Segment]:
    """The segments of the picture, without what follows it, such as the film that a telephone appends.

    More segments or scans than any picture needs are refused: libjpeg processes all pixels for each scan.
    """
    segments: list[Segment] = []
    offset, marker = 0, 0
    while marker != _END and (found := _MARKER.search(content, offset)):
        marker, offset = found[1][0], found.end()
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(content[offset : offset + 2], "big")
        segments.append(Segment(marker, found.start(), offset, offset + length))
        offset += length
        if len(segments) > _MAX_SEGMENTS:
            raise UnreadableImage(f"a JPEG with more than {_MAX_SEGMENTS:,} segments")
    scans = sum(segment.marker == SCAN for segment in segments)
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"a JPEG with {scans:,} scans; at most {_MAX_SCANS} are read")
    return segments


def read_frame(content: bytes, segments: list[Segment]) -> Frame | None:
    """The frame header of a JPEG or a JPEG-LS; None where there is none."""
    for marker, _, body, _ in segments:
        if marker in _FRAME_KINDS:
            header = content[body + 2 : body + 8].ljust(6, b"\0")
            height, width = (int.from_bytes(header[start : start + 2], "big") for start in (1, 3))
            return Frame(marker, header[0], height, width, header[5])
    return None


def open_jpeg(content: bytes) -> tuple[JpegImagePlugin.JpegImageFile, bytes, str | None]:
    """The image, with its metadata where they are sound, not yet decoded; the bytes to decode; any sign of damage."""
    segments = read_segments(content)
    if frame := read_frame(content, segments):
        kind = _FRAME_KINDS[frame.marker] or ("" if frame.bits == 8 else f"a JPEG of {frame.bits} bits a channel")
        if kind:
            raise UnreadableImage(
                f"{kind}; weldnet reads JPEGs of 8 bits, baseline or progressive: convert it to PNG or TIFF, which "
                "keep 16 bits without loss"
            )
    damage = _LOST if _has_lost_bytes(content, segments) else None
    try:
        with blame_file("JPEG"):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage
    except UnreadableImage:
        content = _remove_metadata(content, segments)
    with blame_file("JPEG"):
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage


def _remove_metadata(content: bytes, segments: list[Segment]) -> bytes:
    """The JPEG without its metadata, apart from Adobe's segment, which says what the channels mean."""
    kept, start = [], 0
    for segment in segments:
        names_colours = segment.marker == _ADOBE and segment.end - segment.body - 2 >= _ADOBE_BYTES
        if segment.marker in _METADATA and not names_colours:
            kept.append(content[start : segment.start])
            start = segment.end
    return b"".join([*kept, content[start:]])


def choose_scale(size: Size, turned: bool, least: Size | Callable[[Size], Size]) -> int:
    """The number by which the stored size of a JPEG is divided when it is decoded: 1, 2, 4 or 8.

    `turned` where EXIF turns the picture by 90 degrees; `least` as `open_picture` takes it.
    """
    width, height = size
    needed = least((height, width) if turned else size) if callable(least) else least
    needed_width, needed_height = needed[::-1] if turned else needed
    for scale in (8, 4, 2):
        # If a side is not a multiple of the scale, libjpeg pads its last pixel, which would shift the picture.
        divides = width % scale == 0 == height % scale
        columns, rows = width / scale / needed_width, height / scale / needed_height
        if divides and min(columns, rows) >= _DRAFT_SIDE and columns * rows >= _DRAFT_AREA:
            return scale
    return 1


def decode_jpeg(image: JpegImagePlugin.JpegImageFile, content: bytes, scale: int) -> tuple[Image.Image, str | None]:
    """Decodes what is left of a JPEG from `open_jpeg`, at 1 / `scale` of its size; returns any sign of damage, too."""
    width, height = image.width // scale, image.height // scale
    damage = None
    try:
        if image.mode in ("L", "RGB"):
            colours = "GRAY" if image.mode == "L" else "RGB"
            pixels = simplejpeg.decode_jpeg(content, colours, min_height=height, min_width=width)
            return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels), None
        # Pillow decodes this one; here it is only checked, at the smallest size.
        simplejpeg.decode_jpeg(content, "CMYK", min_height=1, min_width=1)
    except ValueError as error:
        if not _is_unsupported(error):
            damage = _ERRORS
    with blame_file("JPEG"):
        if scale > 1:
            image.draft(None, (width, height))
        image.load()
    return image, damage


def decode_inner(content: bytes, colours: str | None, *, least: int = 0) -> NDArray[Any] | None:
    """Decodes a JPEG of 8 bits, with its tables, that is part of a TIFF or DICOM file.

    Args:
        colours: `GRAY`, `RGB` or `CMYK`; None to look for lost bytes without decoding.
        least: the number of pixels along each side that is enough; 0 for all pixels.

    Returns:
        uint8 (H, W, channels); None without `colours`, and for a kind of JPEG that TurboJPEG does not decode. A JPEG
        that has lost bytes, or of which libjpeg warns, is a ValueError.
    """
    if _has_lost_bytes(content, read_segments(content)):
        raise ValueError(f"the JPEG inside it is damaged: {_LOST}")
    if colours is None:
        return None
    try:
        pixels: NDArray[Any] = simplejpeg.decode_jpeg(content, colours, min_height=least, min_width=least)
    except ValueError as error:
        if _is_unsupported(error):
            return None
        raise ValueError(f"the JPEG inside it is damaged: {_ERRORS}") from error
    return pixels


def _is_unsupported(error: ValueError) -> bool:
    """Whether TurboJPEG lacks a feature of libjpeg, such as some sampling factors: it then names its function tj..."""
    return str(error).startswith("tj")


def _has_lost_bytes(content: bytes, segments: list[Segment]) -> bool:
    """Whether a scan's data hold a run of zero bytes that no encoder wrote.

    A run of zeros proves nothing if zero bits mean a uniform block in every table of the scan: a uniform area is then
    written as zeros. It proves nothing in a progressive or arithmetic JPEG either. Lost bytes that change the length
    of a scan are left to libjpeg, which reports them.
    """
    if bytes(MIN_ZEROS) not in content or not any(segment.marker in _SEQUENTIAL for segment in segments):
        return False
    first_symbols: dict[int, int] = {}
    next_starts = [segment.start for segment in segments[1:]] + [len(content)]
    for segment, next_start in zip(segments, next_starts, strict=True):
        if segment.marker == _TABLES:
            first_symbols |= _read_first_symbols(content[segment.body + 2 : segment.end])
        elif segment.marker == SCAN and content.find(bytes(MIN_ZEROS), segment.end, next_start) >= 0:
            tables = content[segment.body + 4 : segment.end - 3 : 2]
            # A scan without tables uses the standard's, in which zero bits do not mean a uniform block.
            if any(first_symbols.get(table >> 4, 0) or first_symbols.get(16 + table % 16, 1) for table in tables):
                return True
    return False


def _read_first_symbols(tables: bytes) -> dict[int, int]:
    """What zero bits mean in each Huffman table, by class and number; 0 in both classes means a uniform block."""
    first_symbols, start = {}, 0
    while start + 17 < len(tables):
        first_symbols[tables[start]] = tables[start + 17]
        start += 17 + sum(tables[start + 1 : start + 17])
    return first_symbols
