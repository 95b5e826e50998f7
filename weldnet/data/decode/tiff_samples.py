"""The samples of a TIFF's first page, decoded by libtiff; those in JPEG and Deflate where damage is reported."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.damage import blame_file
from weldnet.data.decode.jpeg import SCAN, decode_inner, read_frame, read_segments
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.data.decode.tiff_layout import BLACK_IS_ZERO, CMYK, DEFLATE, JPEG, RGB, YCBCR, Layout
from weldnet.data.decode.tiff_tags import Tag, Tags, change_tags, find_number

_IS_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's segment for RGB. Without it, or JFIF's, libjpeg takes three channels for YCbCr."""
_COLOURS = {1: ("GRAY", 1), 3: ("RGB", 2), 4: ("CMYK", 4)}
"""What a JPEG of so many channels is decoded to: simplejpeg's and libjpeg's names."""


def read_samples(content: bytes, tags: Tags, layout: Layout) -> NDArray[Any]:
    """Decodes all strips or tiles.

    Returns:
        (H, W, channels), in the machine's byte order: uint8, uint16, uint32, int8, int16, int32, float16, float32 or
        float64.
    """
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
