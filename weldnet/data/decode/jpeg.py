"""JPEG: what its segments say, and a decoder that reports damage.

Pillow decodes past damage without a word. simplejpeg uses the same libjpeg-turbo, gives the same pixels as fast, and
raises where libjpeg warns.
"""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from weldnet.data.decode.damage import MIN_ZEROS, blame_file
from weldnet.data.decode.pictures import Size, UnreadableImage
from weldnet.data.decode.structure import SCAN, Segment, read_segments

# Decoded pixels for each pixel asked for, along either side and in all. The mean difference from the whole decode, in
# levels of 255 on the worst of 270 weld photographs: 2.8 where 1.5 are left along both sides, 1.0 where 2.5 are, 0.7
# under this rule.
_DRAFT_SIDE = 1.5
_DRAFT_AREA = 12

_TABLES = 0xC4
_SEQUENTIAL = (0xC0, 0xC1)
_READ = (*_SEQUENTIAL, 0xC2, 0xC9, 0xCA)
_NOT_READ = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS image",
}
_LOST = "it has lost bytes: its compressed data hold zeros instead"
_ERRORS = "the decoder met errors in its compressed data"
_EXIF, _ADOBE = 0xE1, 0xEE
_EXTRAS = {*range(0xE0, 0xF0), 0xFE} - {_EXIF}
_ADOBE_BYTES = 12


def _check_frame(content: bytes, segments: list[Segment]) -> None:
    """Raises:
    UnreadableImage: libjpeg does not decode this kind of JPEG.
    """
    frame = next((one for one in segments if one.marker in _READ or one.marker in _NOT_READ), None)
    if frame is None:
        return
    bits = int.from_bytes(content[frame.body + 2 : frame.body + 3], "big")
    what = _NOT_READ.get(frame.marker) or ("" if bits == 8 else f"a JPEG of {bits} bits a channel")
    if what:
        raise UnreadableImage(
            f"{what}; JPEGs of 8 bits, baseline or progressive, are read: convert it to PNG or TIFF, which keep "
            "16 bits without loss"
        )


def open_jpeg(content: bytes) -> tuple[JpegImagePlugin.JpegImageFile, bytes, str | None]:
    """Reads the head of a JPEG, with its metadata where they can be read.

    Returns:
        The image, not yet decoded, the bytes it is read from, and what already tells that they were damaged.

    Raises:
        UnreadableImage: the head is damaged, or the JPEG is of a kind that is not read.
    """
    segments = read_segments(content)
    _check_frame(content, segments)
    damage = _LOST if _has_lost_bytes(content, segments) else None
    try:
        with blame_file("JPEG"):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage
    except UnreadableImage:
        content = _remove_extras(content, segments)
    with blame_file("JPEG"):
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content)), content, damage


def _remove_extras(content: bytes, segments: list[Segment]) -> bytes:
    """The JPEG without the segments that say nothing of the pixels; Adobe's says which colours they are."""
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
    """Decodes a JPEG, as far as it goes.

    Args:
        image: of `open_jpeg`, and the bytes it is read from.
        scale: of `choose_scale`; 1 for other modes than L and RGB.

    Returns:
        The picture, and what tells that it was damaged.

    Raises:
        UnreadableImage: it cannot be decoded at all.
    """
    width, height = image.width // scale, image.height // scale
    colours = {"L": "GRAY", "RGB": "RGB"}.get(image.mode)
    damage = None
    try:
        if colours is None:
            # Only to have it checked, and as small as can be.
            simplejpeg.decode_jpeg(content, "CMYK", min_height=1, min_width=1)
        else:
            pixels = simplejpeg.decode_jpeg(content, colours, min_height=height, min_width=width)
            return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels), None
    except ValueError as error:
        # TurboJPEG's own refusals, such as of sampling factors that only libjpeg knows, name its function.
        if not str(error).startswith("tj"):
            damage = _ERRORS
    with blame_file("JPEG"):
        if scale > 1:
            image.draft(None, (width, height))
        image.load()
    return image, damage


def refuse_damaged(content: bytes) -> None:
    """Checks a JPEG of 8 bits inside a different file, whose decoder passes over damage without a word.

    Raises:
        ValueError: libjpeg warns of it, or it has lost bytes.
    """
    refuse_lost_bytes(content, read_segments(content))
    # As small as can be, which costs a fraction of the decode.
    decode_undamaged(content, "GRAY", least=1)


def refuse_lost_bytes(content: bytes, segments: list[Segment]) -> None:
    """Raises:
    ValueError: a JPEG inside a different file has lost bytes.
    """
    if _has_lost_bytes(content, segments):
        raise ValueError(f"the JPEG inside it is damaged: {_LOST}")


def decode_undamaged(
    content: bytes, colours: str, *, least: int = 0, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8] | None:
    """Decodes a JPEG of 8 bits inside a different file.

    Args:
        content: the JPEG, with its tables.
        colours: `GRAY`, `RGB` or `CMYK`.
        least: the pixels along either side that are enough; 0 for all.
        into: where the pixels go; new memory if None.

    Returns:
        (H, W, channels); None for a kind, or colours, that TurboJPEG does not read.

    Raises:
        ValueError: libjpeg warns of it.
    """
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, colours, min_height=least, min_width=least, buffer=into
        )
    except ValueError as error:
        if str(error).startswith("tj"):
            return None
        raise ValueError(f"the JPEG inside it is damaged: {_ERRORS}") from error
    return pixels


def _has_lost_bytes(content: bytes, segments: list[Segment]) -> bool:
    """Whether a scan's data hold a run of zero bytes that no encoder wrote.

    Where zero bits mean an even block in every table of the scan, an even area is a run of zeros, which proves nothing.
    The same goes for progressive and arithmetic JPEGs. A scan of another length libjpeg reports.
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
