"""TIFF: the first page's samples become a picture, decoded where damage is reported.

Read by imagecodecs's libtiff, those in JPEG and Deflate by other libraries, which report damage. Pillow takes some
layouts for others, and its libtiff writes to stderr.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.damage import blame_file
from weldnet.data.decode.jpeg import SCAN, decode_inner, read_frame, read_segments
from weldnet.data.decode.pictures import Picture, Stored, UnreadableImage, Window, turn_upright
from weldnet.data.decode.tiff_layout import (
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    JPEG,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    read_layout,
)
from weldnet.data.decode.tiff_tags import Tag, Tags, change_tags, find_number, read_tags

_STRAIGHT_ALPHA = 2
_BLOCK = 2**18

_IS_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's segment for RGB. Without it, or JFIF's, libjpeg takes three channels for YCbCr."""
_COLOURS = {1: ("GRAY", 1), 3: ("RGB", 2), 4: ("CMYK", 4)}
"""What a JPEG of so many channels is decoded to: simplejpeg's and libjpeg's names."""


def open_tiff(content: bytes, window: Window, max_pixels: int) -> Picture:
    """Decodes the first page of a TIFF to 8 bits, as `weldnet.data.decode.formats.open_picture` does.

    Grey of fewer than 8 bits and palettes are spread to 8 bits before the window. Pixels with alpha are laid over black
    before it. A channel beyond the colours is ignored where the file does not say what it means.
    """
    tags, pages = read_tags(content)
    layout = read_layout(tags, max_pixels)
    stored = _read_colours(read_samples(content, tags, layout), tags, layout)
    plain = stored.values.dtype == np.uint8 and window == "full"
    shown = (~stored.values if stored.inverted else stored.values) if plain else stored.show(window)
    shown = np.ascontiguousarray(shown)
    kept = None if plain and not stored.inverted else stored
    # Before Pillow takes its copy: a large picture's channels are hundreds of megabytes.
    del stored
    return Picture(
        image=turn_upright(Image.fromarray(shown), find_number(tags, Tag.ORIENTATION, 1)),
        format="TIFF",
        bits=layout.bits,
        size=(layout.width, layout.height),
        pages=pages,
        stored=kept,
    )


def _read_colours(samples: NDArray[Any], tags: Tags, layout: Layout) -> Stored:
    """The values that the window is given in: grey (H, W) or RGB (H, W, 3)."""
    most = 2**layout.bits - 1
    if layout.photometric == PALETTE:
        colours = tags[Tag.COLOUR_MAP].numbers[: 3 * 2**layout.bits].reshape(3, -1).T
        # Some writers fill the low byte only.
        shades = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        return Stored(shades.take(samples[..., 0], axis=0), (0, 255))
    if layout.photometric == CMYK:
        values = most - samples[..., :3]
        _weigh(values, most - samples[..., 3], most)
    elif layout.photometric == YCBCR and layout.compression != JPEG:
        values = np.array(Image.fromarray(np.ascontiguousarray(samples[..., :3]), "YCbCr").convert("RGB"))
    else:
        values = samples[..., 0] if layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else samples[..., :3]
    inverted = layout.photometric == WHITE_IS_ZERO
    if _STRAIGHT_ALPHA in layout.extra:
        if layout.kind != "u" or inverted:
            raise UnreadableImage("a TIFF with transparency over signed, float or WhiteIsZero pixels; save it without")
        alpha = samples[..., layout.extra.index(_STRAIGHT_ALPHA) - len(layout.extra)]
        _weigh(values, alpha, most)
    if layout.kind == "u" and layout.bits < 8:
        values, most = np.round(values * np.float32(255 / most)).astype(np.uint8), 255
    if layout.kind == "f" or layout.bits > 16:
        return Stored(values, None, inverted)
    return Stored(values, (-(2 ** (layout.bits - 1)), most >> 1) if layout.kind == "i" else (0, most), inverted)


def _weigh(values: NDArray[Any], weight: NDArray[Any], most: int) -> None:
    """values x weight / most, rounded, in place and some rows at a time: all in wider numbers would be gigabytes."""
    wide: np.dtype[Any] = np.dtype(np.uint32 if most < 2**16 else np.uint64)
    step = max(1, _BLOCK // values[0].size)
    for row in range(0, len(values), step):
        band, share = values[row : row + step].astype(wide), weight[row : row + step].astype(wide)
        values[row : row + step] = (band * (share[..., None] if band.ndim == 3 else share) + most // 2) // most


def read_samples(content: bytes, tags: Tags, layout: Layout) -> NDArray[Any]:
    """Decodes all strips or tiles: (H, W, channels) of `Layout.dtype`, in the machine's byte order."""
    # libtiff would take the file's header for pixels.
    if (layout.offsets[: layout.num_segments] < 8).any():
        raise UnreadableImage("a truncated or damaged TIFF: a strip or tile without an offset")
    if layout.subsampling != (1, 1):
        return _read_subsampled(content, tags, layout)
    predictor, fill_order = (find_number(tags, tag, 1) for tag in (Tag.PREDICTOR, Tag.FILL_ORDER))
    simple = layout.bits in (8, 16, 32, 64) and predictor in (1, 2) and fill_order != 2
    if layout.compression == JPEG or (layout.compression in DEFLATE and simple):
        return _read_checked(content, tags, layout, predictor)
    shape = (layout.height, layout.width, layout.samples)
    if layout.bits == 24:
        thirds = {Tag.WIDTH: 3 * layout.width, Tag.TILE_WIDTH: 3 * layout.columns, Tag.BITS: 8}
        flat = _decode(content, tags, layout, (layout.height, 3 * layout.width, layout.samples), thirds)
        parts = flat.reshape(*shape[:2], 3, -1).swapaxes(2, 3) if layout.separate else flat.reshape(*shape, 3)
        low, middle, high = np.moveaxis(parts, -1, 0)[:: 1 if content.startswith(b"II") else -1].astype(np.uint32)
        return np.asarray(low | middle << 8 | high << 16)
    # libtiff would convert these to RGB, and ignore damage.
    raw = {Tag.PHOTOMETRIC: RGB} if layout.photometric in (CMYK, YCBCR) else {}
    return _decode(content, tags, layout, shape, raw)


def _decode(
    content: bytes, tags: Tags, layout: Layout, shape: tuple[int, int, int], changes: Mapping[Tag, int]
) -> NDArray[Any]:
    """What libtiff makes of the file with different values for some tags, which must be of this shape."""
    with blame_file("TIFF"):
        decoded = imagecodecs.tiff_decode(change_tags(content, tags, changes) if changes else content)
    samples = np.moveaxis(decoded, 0, -1) if layout.separate else np.atleast_3d(decoded)
    if samples.dtype == bool:
        samples = samples.view(np.uint8)
    if samples.shape != shape or samples.dtype != (np.uint8 if Tag.BITS in changes else layout.dtype):
        raise UnreadableImage("a damaged TIFF: its tags contradict each other")
    return samples


def _read_subsampled(content: bytes, tags: Tags, layout: Layout) -> NDArray[np.uint8]:
    """YCbCr (H, W, 3) from units of some luma samples, a Cb and a Cr, which libtiff reads as grey pixels."""
    across, down = layout.subsampling
    size = across * down + 2
    height, columns = math.ceil(layout.height / down), math.ceil(layout.width / across)
    rows = math.ceil(layout.rows / down)
    changes = {Tag.PHOTOMETRIC: BLACK_IS_ZERO, Tag.SAMPLES: 1, Tag.LENGTH: height}
    changes |= {Tag.WIDTH: columns * size, Tag.ROWS: rows}
    changes |= {Tag.TILE_LENGTH: rows, Tag.TILE_WIDTH: math.ceil(layout.columns / across) * size}
    units = _decode(content, tags, layout, (height, columns * size, 1), changes).reshape(height, columns, size)
    luma = units[..., :-2].reshape(height, columns, down, across).swapaxes(1, 2)
    chroma = units[..., -2:].repeat(down, 0).repeat(across, 1)
    return np.dstack([luma.reshape(chroma.shape[:2]), chroma])[: layout.height, : layout.width]


def _read_checked(content: bytes, tags: Tags, layout: Layout, predictor: int) -> NDArray[Any]:
    """The samples of strips or tiles that are JPEGs, or have a check sum."""
    across, down = math.ceil(layout.width / layout.columns), math.ceil(layout.height / layout.rows)
    channels = 1 if layout.separate else layout.samples
    samples = np.empty((layout.height, layout.width, layout.samples), layout.dtype)
    tables = tags[Tag.TABLES].numbers.tobytes()[:-2] if Tag.TABLES in tags else b""
    stored = layout.dtype.newbyteorder("<" if content.startswith(b"II") else ">")
    counts = layout.counts.tolist() or [len(content)]
    for index, offset in enumerate(layout.offsets[: layout.num_segments].tolist()):
        plane, (row, column) = index // (across * down), divmod(index % (across * down), across)
        target = samples[row * layout.rows :, column * layout.columns :, plane * channels :]
        target = target[: layout.rows, : layout.columns, :channels]
        data = content[offset : offset + counts[index]]
        shape = (layout.rows if layout.tiled else len(target), layout.columns, channels)
        try:
            if layout.compression == JPEG:
                pixels = _decode_jpeg(tables + data[2:] if tables else data, layout, shape)
            else:
                pixels = _inflate(data, stored, shape)
        except (ValueError, RuntimeError, zlib.error) as error:
            raise UnreadableImage(f"a damaged TIFF: a strip or tile: {error}") from error
        target[...] = pixels[: len(target), : target.shape[1]]
        if predictor == 2 and layout.compression in DEFLATE:
            imagecodecs.delta_decode(target, axis=-2, out=target)
    return samples


def _inflate(data: bytes, dtype: np.dtype[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Pixels in Deflate. libtiff does not compare the check sum where damage makes the data longer."""
    size = math.prod(shape) * dtype.itemsize
    try:
        raw = imagecodecs.deflate_decode(data, out=size)
    except RuntimeError:
        # Damaged, or whole rows more than are needed, as some writers have it; the check sum comes after those.
        stream = zlib.decompressobj()
        raw = stream.decompress(data, size)
        stream.decompress(stream.unconsumed_tail, 2 * size)
        if not (stream.eof or stream.unconsumed_tail):
            raise ValueError("it is cut off") from None
    if len(raw) < size:
        raise ValueError(f"it has {len(raw):,} of {size:,} bytes")
    return np.frombuffer(raw, dtype).reshape(shape)


def _decode_jpeg(data: bytes, layout: Layout, shape: tuple[int, int, int]) -> NDArray[Any]:
    height, width, channels = shape
    segments = read_segments(data)
    frame = read_frame(data, segments)
    if frame is None or (frame.height, frame.width, frame.channels, frame.bits) != (*shape, layout.bits):
        raise ValueError(f"the JPEG inside it is not of {width} x {height} pixels of {channels} x {layout.bits} bits")
    if layout.photometric == RGB:
        scan = next((one.start for one in segments if one.marker == SCAN), len(data))
        data = data[:scan] + _IS_RGB + data[scan:]
    colours, code = _COLOURS.get(channels, (None, None))
    pixels = decode_inner(data, colours) if frame.bits == 8 else None
    return imagecodecs.jpeg8_decode(data, outcolorspace=code).reshape(height, width, -1) if pixels is None else pixels
