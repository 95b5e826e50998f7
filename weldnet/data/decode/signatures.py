"""Is this file a photograph, and of which format? By its ending where that is usual, else by its first bytes."""

import os
import re
import stat
from typing import Literal

from weldnet.data.decode.dicom import find_missing

Kind = Literal["image", "unread", "other"]
"""A file that the decoder is given; a photograph in a format that it does not read; anything else."""

FORMAT_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "DICOM": (".dcm", ".dicom"),
}
"""The usual endings of what the decoder reads."""

ENDINGS = tuple(ending for endings in FORMAT_ENDINGS.values() for ending in endings)

_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_UNREAD = (
    *(".avif", ".exr", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".raw", ".tga", ".wdp"),
)
_STARTS = {
    # Canon's raw photographs are TIFFs, too.
    "a camera's raw photograph": rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|FOVb|\0MRM|.{8}CR\x02|.{4}ftypcrx ",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WEBP": rb"RIFF.{4}WEBP",
    "a JPEG XL file": rb"\xff\x0a|\0\0\0\x0cJXL \r\n",
    "a JPEG 2000 file": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n",
    "a JPEG XR file": rb"II\xbc\x01",
    "an HEIC or AVIF file": rb".{4}ftyp(?:avi[fs]|mif1|msf1|hei[cxms]|hev[cx])",
    "an OpenEXR file": rb"v/1\x01",
    "a GIF": rb"GIF8[79]a",
    "a Photoshop file": rb"8BPS",
}
_PATTERNS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _STARTS.items()}
HEAD = 132
"""Bytes from which the format is recognised."""


def find_format(head: bytes) -> str:
    """A key of `FORMAT_ENDINGS`, or the name of a format that is not read, or an empty string."""
    if find_missing(head) is not None:
        return "DICOM"
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(head)), "")


def sort_file(path: str) -> Kind:
    """What kind of file it is; one with an image's usual ending is not opened.

    A file that may not be opened counts as an image, so that it is reported.
    """
    name = path.lower()
    if name.endswith(ENDINGS):
        return "image"
    try:
        # Before it is opened: a named pipe would wait for its writer for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "other"
        if is_raw(path):
            return "unread"
        with open(path, "rb") as file:
            found = find_format(file.read(HEAD))
    except FileNotFoundError:
        return "other"
    except OSError:
        return "image"
    if found in FORMAT_ENDINGS:
        return "image"
    return "unread" if found or name.endswith(_UNREAD) else "other"


def is_raw(path: str) -> bool:
    """Whether the name is that of a camera's raw photograph: many are TIFFs whose first page is a thumbnail."""
    return path.lower().endswith(_RAW)
