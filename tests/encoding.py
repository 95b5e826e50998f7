"""Files of every format in memory, with values that the encoders of Pillow do not write, and the windows in NumPy."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from weldnet.data.formats import Picture

RAMP = np.linspace(1000, 5095, 24 * 20).astype(np.uint16).reshape(24, 20)


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def make_png(pixels: NDArray[np.uint16]) -> bytes:
    """16 bits a channel: grey (H, W), or grey with alpha, RGB or RGBA (H, W, C)."""
    height, width, channels = np.atleast_3d(pixels).shape
    rows = pixels.astype(">u2").reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)


def make_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_tiff(
    pixels: NDArray[Any], *, bits: int = 0, sample: int = 1, photometric: int = 1, following: int = 0
) -> bytes:
    """A raw grey TIFF, little-endian: header, one directory at byte 8, pixels; `following`: the next directory."""
    height, width = pixels.shape
    bits = bits or 8 * pixels.itemsize
    data = pixels.tobytes()
    place = 8 + 2 + 12 * 10 + 4
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: place, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 279 else 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + data


def make_dicom(pixels: NDArray[Any], *, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """`pixels` (H, W) grey or (H, W, 3) RGB; `elements` come on top and can belie them."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    header.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8 * pixels.itemsize
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(header, name, value)
    header.HighBit = header.BitsStored - 1
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def apply_linear(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """The window in plain NumPy, not rounded."""
    return np.asarray(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255)


def assert_shows(picture: Picture, expected: NDArray[Any]) -> None:
    assert picture.image.mode == ("L" if expected.ndim == 2 else "RGB")
    shown = np.asarray(picture.image)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 0.5001
