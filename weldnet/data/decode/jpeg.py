"""JPEG: what its segments say, and a decoder that reports damage.

Pillow decodes past damage without a word. simplejpeg uses the same libjpeg-turbo, gives the same pixels as fast, and
raises where libjpeg warns.
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

# Decoded pixels for each pixel asked for, along either side and in all. The mean difference from the whole decode, in
# levels of 255 on the worst of 270 weld photographs: 2.8 where 1.5 are left along both sides, 1.0 where 2.5 are, 0.7
# under this rule.
_DRAFT_SIDE = 1.5
_DRAFT_AREA = 12

_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000
SCAN = 0xDA
_END, _TABLES, _EXIF, _ADOBE = 0xD9, 0xC4, 0xE1, 0xEE
_ADOBE_BYTES = 12
_ALONE = (0x01, 0xD8, _END)
_EXTRAS = {*range(0xE0, 0xF0), 0xFE} - {_EXIF}
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = {
    **dict.fromkeys((*_SEQUENTIAL, 0xC2, 0xC9, 0xCA), ""),
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS image",
}
"""Markers of frame headers, with the name of a kind that libjpeg does not decode."""
# In a scan's data, no marker: a zero after it, a restart, or filling.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_LOST = "it has lost bytes: its compressed data hold zeros instead"
_ERRORS = "the decoder met errors in its compressed data"


class Segment(NamedTuple):
    """A marker, where it starts, and where its own bytes start and end; a scan's data follow its end."""

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
    """The segments up to the one that ends the picture, after which telephones append a film.

    More than any picture needs are refused: libjpeg would process all pixels for each of many scans.
    """
    segments: list[Segment] = []
    offset, marker = 0, 0
    while marker != _END and (found := _MARKER.search(content, offset)):
        marker, offset = found[1][0], found.end()
        length = 0 if marker in _ALONE else int.from_bytes(content[offset : offset + 2], "big")
        segments.append(Segment(marker, found.start(), offset, offset + length))
        offset += length
        if len(segments) > _MAX_SEGMENTS:
            raise UnreadableImage(f"a JPEG with more than {_MAX_SEGMENTS:,} segments")
    scans = sum(segment.marker == SCAN for segment in segments)
    if scans > _MAX_SCANS:
        raise UnreadableImage(f"a JPEG with {scans:,} scans; at most {_MAX_SCANS} are read")
    return segments


def read_frame(content: bytes, segments: list[Segment]) -> Frame | None:
    """A JPEG's or JPEG-LS's frame header, or None where there is none."""
    for marker, _, body, _ in segments:
        if marker in _FRAMES:
            header = content[body + 2 : body + 8].ljust(6, b"\0")
            height, width = (int.from_bytes(header[start : start + 2], "big") for start in (1, 3))
            return Frame(marker, header[0], height, width, header[5])
    return None


def open_jpeg(content: bytes) -> tuple[JpegImagePlugin.JpegImageFile, bytes, str | None]:
    """Reads the head of a JPEG, with its metadata where they can be read.

    Returns:
        The image, not yet decoded, the bytes it is read from, and any sign that they were damaged.
    """
    segments = read_segments(content)
    if frame := read_frame(content, segments):
        kind = _FRAMES[frame.marker] or ("" if frame.bits == 8 else f"a JPEG of {frame.bits} bits a channel")
        if kind:
            raise UnreadableImage(
                f"{kind}; JPEGs of 8 bits, baseline or progressive, are read: convert it to PNG or TIFF, which keep "
                "16 bits without loss"
            )
    damage = _LOST if _has_lost_bytes(content, segments) else None
    try:
        with blame_file("JPEG"):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage
    except UnreadableImage:
        content = _remove_extras(content, segments)
    with blame_file("JPEG"):
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage


def _remove_extras(content: bytes, segments: list[Segment]) -> bytes:
    """The JPEG without the segments that do not concern the pixels; Adobe's names the colours."""
    kept, start = [], 0
    for one in segments:
        if one.marker in _EXTRAS and not (one.marker == _ADOBE and one.end - one.body - 2 >= _ADOBE_BYTES):
            kept.append(content[start : one.start])
            start = one.end
    return b"".join([*kept, content[start:]])


def choose_scale(size: Size, turned: bool, least: Size | Callable[[Size], Size]) -> int:
    """The fraction of its size, 1 over 1, 2, 4 or 8, at which a JPEG is decoded.

    Args:
        size: width and height as stored.
        turned: EXIF turns it by 90 degrees.
        least: the size that the caller needs, as `open_picture` takes it.
    """
    across, down = size
    needed = least((down, across) if turned else size) if callable(least) else least
    width, height = needed[::-1] if turned else needed
    for scale in (8, 4, 2):
        # Sides that do not divide get a padded last pixel, which would shift the picture.
        divides = across % scale == 0 == down % scale
        columns, rows = across / scale / width, down / scale / height
        if divides and min(columns, rows) >= _DRAFT_SIDE and columns * rows >= _DRAFT_AREA:
            return scale
    return 1


def decode_jpeg(image: JpegImagePlugin.JpegImageFile, content: bytes, scale: int) -> tuple[Image.Image, str | None]:
    """Decodes a JPEG of `open_jpeg`, as far as it goes, at 1 / `scale` of its size; and any sign of damage."""
    width, height = image.width // scale, image.height // scale
    damage = None
    try:
        if image.mode in ("L", "RGB"):
            colours = "GRAY" if image.mode == "L" else "RGB"
            pixels = simplejpeg.decode_jpeg(content, colours, min_height=height, min_width=width)
            return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels), None
        # Only to have it checked, and as small as can be.
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
    """Decodes a JPEG of 8 bits inside a different file.

    Args:
        content: the JPEG, with its tables.
        colours: `GRAY`, `RGB` or `CMYK`; None only looks for lost bytes.
        least: the pixels along either side that are enough; 0 for all.

    Returns:
        uint8 (H, W, channels); None for a kind, or colours, that TurboJPEG does not read.

    Raises:
        ValueError: it has lost bytes, or libjpeg warns of it.
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
    """Whether TurboJPEG names a function of its own, as of sampling factors that only libjpeg knows."""
    return str(error).startswith("tj")


def _has_lost_bytes(content: bytes, segments: list[Segment]) -> bool:
    """Whether a scan's data hold a run of zero bytes that no encoder wrote.

    Where zero bits mean an even block in every table of the scan, an even area is a run of zeros, which proves nothing.
    The same goes for progressive and arithmetic JPEGs. libjpeg reports a scan of a different length.
    """
    if bytes(MIN_ZEROS) not in content or not any(one.marker in _SEQUENTIAL for one in segments):
        return False
    first: dict[int, int] = {}
    starts = [one.start for one in segments[1:]] + [len(content)]
    for one, following in zip(segments, starts, strict=True):
        if one.marker == _TABLES:
            first |= _read_first_symbols(content[one.body + 2 : one.end])
        elif one.marker == SCAN and content.find(bytes(MIN_ZEROS), one.end, following) >= 0:
            chosen = content[one.body + 4 : one.end - 3 : 2]
            # A scan without tables has those of the standard, where a zero is no even block.
            if any(first.get(table >> 4, 0) or first.get(16 + table % 16, 1) for table in chosen):
                return True
    return False


def _read_first_symbols(tables: bytes) -> dict[int, int]:
    """What zero bits mean in each Huffman table, by class and number; 0 in both classes is an even block."""
    first, start = {}, 0
    while start + 17 < len(tables):
        first[tables[start]] = tables[start + 17]
        start += 17 + sum(tables[start + 1 : start + 17])
    return first
