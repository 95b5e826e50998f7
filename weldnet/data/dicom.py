"""DICOM and DICONDE radiographs, read with pydicom."""

import io
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.pictures import Picture, Stored, UnreadableImage, Window, check_pixels

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def open_dicom(content: bytes, window: Window) -> Picture:
    """Decodes the first frame of a DICOM file to 8 bits.

    Values go through the modality LUT or rescale slope, then the window; MONOCHROME1 is inverted after that, so that
    low values are bright, as on a screen. The file's own window, which differs from file to file, is not used.

    Args:
        content: the whole file, with "DICM" at byte 128.
        window: as `weldnet.data.formats.open_picture` takes it, in values after the modality LUT.

    Raises:
        UnreadableImage: pydicom or a decoder is not installed, or the file is damaged, too large or has no picture.

    Source: DICOM PS3.3, C.7.6.3 and C.11.1.
    """
    try:
        import pydicom
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.pixels.utils import pixel_array
    except ImportError:
        raise UnreadableImage("DICOM needs pydicom: type pip install 'weldnet[dicom]'") from None
    if _DEFLATED in content:
        # pydicom would inflate it whole, however large that is.
        raise UnreadableImage("deflated DICOM is not read; save it uncompressed")
    try:
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        _check_header(header)
        syntax = header.file_meta.TransferSyntaxUID
        if not get_decoder(syntax).is_available:
            raise UnreadableImage(f"no decoder for {syntax.name} is installed; save the file uncompressed")
        stored = _apply_modality(pixel_array(io.BytesIO(content), index=0), header)
        return Picture(
            image=Image.fromarray(stored.show(window)),
            format="DICOM",
            mode=header.PhotometricInterpretation,
            bits=header.BitsStored,
            size=(header.Columns, header.Rows),
            pages=int(header.get("NumberOfFrames") or 1),
            stored=stored,
        )
    except UnreadableImage:
        raise
    # Of a damaged file pydicom raises whatever its parser stumbles over, and says so for a paragraph.
    except Exception as error:
        reason = shorten(str(error).partition(". ")[0], 160) or type(error).__name__
        raise UnreadableImage(f"damaged DICOM: {reason}") from error


def _check_header(header: "Dataset") -> None:
    """Refuses what cannot be shown before any pixel is decoded."""
    missing = [name for name in ("Rows", "Columns", "BitsStored", "PhotometricInterpretation") if name not in header]
    if missing:
        raise UnreadableImage(f"DICOM without a picture: no {', '.join(missing)}")
    if header.PhotometricInterpretation not in (*_GREY, *_COLOUR):
        raise UnreadableImage(
            f"{shorten(str(header.PhotometricInterpretation), 40)} pixels; allowed are MONOCHROME1, MONOCHROME2, RGB "
            "and YBR"
        )
    check_pixels((header.Columns, header.Rows))


def _apply_modality(values: NDArray[Any], header: "Dataset") -> Stored:
    from pydicom.pixels.processing import apply_modality_lut

    bits, signed = header.BitsStored, header.get("PixelRepresentation") == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    if header.PhotometricInterpretation in _GREY:
        if header.get("ModalityLUTSequence"):
            # Its first index can be below what the stored type holds.
            values = apply_modality_lut(values.astype(np.int64), header)
            ends = np.array([0, 2 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1])
        else:
            values, ends = apply_modality_lut(values, header), apply_modality_lut(ends, header)
    full = (float(ends.min()), float(ends.max())) if bits <= 16 else None
    return Stored(values, full, inverted=header.PhotometricInterpretation == "MONOCHROME1")
