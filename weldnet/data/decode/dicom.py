"""DICOM and DICONDE radiographs, read with pydicom."""

import io
import logging
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.dicom_file import decode_frame, find_missing, find_syntax
from weldnet.data.decode.pictures import Picture, Stored, UnreadableImage, Window, check_pixels
from weldnet.errors import propose_extra

if TYPE_CHECKING:
    from pydicom import Dataset

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def open_dicom(content: bytes, window: Window, max_pixels: int) -> Picture:
    """Decodes the first frame of a DICOM file to 8 bits, as `weldnet.data.decode.formats.open_picture` does.

    Values go through the first frame's modality LUT or rescale slope, then the window; MONOCHROME1 is inverted after
    that, so that low values are bright, as on a screen. The file's own window, which differs from file to file, is not
    used.

    Source: DICOM PS3.3, C.7.6.3, C.7.6.16.2.9 and C.11.1.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableImage(f"DICOM needs pydicom; type {propose_extra('dicom')}") from None
    # It logs what it then raises, with a traceback.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    content = (find_missing(content) or b"") + content
    try:
        syntax = find_syntax(content)
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        _check_header(header)
        check_pixels((header.Columns, header.Rows), max_pixels)
        size, pages = (header.Columns, header.Rows), int(header.get("NumberOfFrames") or 1)
        values = decode_frame(content, header, syntax)
        stored = _apply_modality(_align_bits(values, header), header)
    except UnreadableImage:
        raise
    # For a damaged file pydicom raises any exception of its parser, with a message of a paragraph.
    except Exception as error:
        reason = shorten(str(error).partition(". ")[0], 160) or type(error).__name__
        raise UnreadableImage(f"damaged DICOM: {reason}") from error
    return Picture(
        image=Image.fromarray(stored.show(window)),
        format="DICOM",
        mode=header.PhotometricInterpretation,
        bits=header.BitsStored,
        size=size,
        pages=pages,
        stored=stored,
    )


def _check_header(header: "Dataset") -> None:
    """Refuses what cannot be shown before any pixel is decoded."""
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
    missing = [name for name in needed if header.get(name) is None]
    if missing:
        raise UnreadableImage(f"DICOM without a picture: no {', '.join(missing)}")
    if header.PhotometricInterpretation not in (*_GREY, *_COLOUR):
        raise UnreadableImage(
            f"{shorten(str(header.PhotometricInterpretation), 40)} pixels; allowed are MONOCHROME1, MONOCHROME2, RGB "
            "and YBR"
        )
    numbers = [header.get(name) for name in needed[:4]]
    are_whole = all(isinstance(number, int) for number in numbers)
    if not are_whole or not 1 <= header.BitsStored <= header.BitsAllocated <= 32:
        raise UnreadableImage(
            f"damaged DICOM: Rows, Columns, BitsAllocated and BitsStored are {shorten(str(numbers), 60)}; bits may be "
            "1 to 32"
        )


def _align_bits(values: NDArray[Any], header: "Dataset") -> NDArray[Any]:
    """Stored bits at the top of a word are moved down; a sign that does not fill the word is spread."""
    stored, allocated = header.BitsStored, header.BitsAllocated
    spare = allocated - stored
    # Headers that are wrong of it are common: the values decide with it.
    if spare > 0 and header.get("HighBit") == allocated - 1 and values.dtype.itemsize * 8 == allocated:
        low = values & (2**spare - 1)
        if not low.any() or values.max() >= 2**stored or values.min() < -(2**stored):
            values = values >> spare
    if header.get("PixelRepresentation") == 1 and values.dtype.kind in "ui" and values.min() >= 0:
        wide = values.astype(np.int64 if stored > 16 else np.int32)
        values = np.where(wide >= 2 ** (stored - 1), wide - 2**stored, wide)
    return values


def _find_modality(header: "Dataset") -> "Dataset":
    """What holds the first frame's modality LUT or rescale slope: the header, or a group in an enhanced file."""
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (header.get(name) or [])[:1]:
            for transformation in (group.get("PixelValueTransformationSequence") or [])[:1]:
                found: Dataset = transformation
                return found
    return header


def _apply_modality(values: NDArray[Any], header: "Dataset") -> Stored:
    from pydicom.pixels.processing import apply_modality_lut

    bits, signed = header.BitsStored, header.get("PixelRepresentation") == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    modality = _find_modality(header)
    if header.PhotometricInterpretation in _GREY:
        if modality.get("ModalityLUTSequence"):
            # Its first index can be below what the stored type holds.
            values = apply_modality_lut(values.astype(np.int64), modality)
            ends = np.array([0, 2 ** modality.ModalityLUTSequence[0].LUTDescriptor[2] - 1])
        else:
            values, ends = apply_modality_lut(values, modality), apply_modality_lut(ends, modality)
    full = (float(ends.min()), float(ends.max())) if bits <= 16 else None
    return Stored(values, full, inverted=header.PhotometricInterpretation == "MONOCHROME1")
