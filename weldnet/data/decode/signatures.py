"""Is this file a photograph? By its ending where that is usual, else by its first bytes."""

import os
import stat
import struct
from typing import Literal

from weldnet.data.decode.dicom_file import is_dicom

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

_READ_STARTS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
_UNREAD_STARTS = (
    *(b"GIF87a", b"GIF89a", b"8BPS", b"v/1\x01", b"II\xbc\x01"),
    *(b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL \r\n"),
    # Of cameras.
    *(b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"),
)
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_HEAD = 132


def sort_file(path: str) -> Kind:
    """What kind of file it is; one with an image's usual ending is not opened.

    A file that may not be opened counts as an image, so that somebody hears of it.
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
            head = file.read(_HEAD)
    except FileNotFoundError:
        return "other"
    except OSError:
        return "image"
    found = sort_content(head)
    return "unread" if found == "other" and name.endswith(_UNREAD) else found


def sort_content(head: bytes) -> Kind:
    """What kind of file begins like this; 132 bytes are enough."""
    # Canon's raw photographs are TIFFs, too.
    if head.startswith(_UNREAD_STARTS) or head[8:11] == b"CR\x02" or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS):
        return "unread"
    is_bmp = head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    is_image = head.startswith(_READ_STARTS) or is_bmp or is_webp or is_dicom(head)
    return "image" if is_image else "other"


def is_raw(path: str) -> bool:
    """Whether the name is that of a camera's raw photograph: many are TIFFs whose first page is a thumbnail."""
    return path.lower().endswith(_RAW)
