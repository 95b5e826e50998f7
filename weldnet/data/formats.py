"""Every format of the decoder: from a file's bytes to a picture of 8 bits."""

import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from weldnet.data.dicom import open_dicom
from weldnet.data.dicom_file import is_dicom
from weldnet.data.pictures import (
    WINDOWS,
    Picture,
    Size,
    Stored,
    UnreadableImage,
    Window,
    check_pixels,
    check_window,
    turn_upright,
)
from weldnet.data.signatures import is_raw
from weldnet.data.structure import check_scans
from weldnet.data.tiff import open_tiff

__all__ = ["WINDOWS", "Picture", "UnreadableImage", "Window", "check_window", "open_picture", "read_content"]

_MAX_BYTES = 2**30
# Decoded pixels for each pixel asked for, along either side and in all. The mean difference from the whole decode, in
# levels of 255 on the worst of 270 weld photographs: 2.8 where 1.5 are left along both sides, 1.0 where 2.5 are, 0.7
# under this rule.
_DRAFT_SIDE = 1.5
_DRAFT_AREA = 12

_READERS: tuple[tuple[bytes, str, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", "JPEG", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
    (b"BM", "BMP", BmpImagePlugin.BmpImageFile),
    (b"RIFF", "WEBP", WebPImagePlugin.WebPImageFile),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEEP = {"I;16", "I;16B", "I;16L", "I", "F"}
_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_EIGHT_BIT = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"} | _ALPHA
_ORIENTATION = 274
# What Pillow's readers raise for a damaged file; the second row is for tags of the wrong type or size.
_TOLD_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_DAMAGE = (
    *_TOLD_DAMAGE,
    *(LookupError, TypeError, AttributeError, ArithmeticError, struct.error),
)
# In a scan's data, no marker: a zero after it, a restart, or filling.
_QUIET = ("ignore", None, UserWarning, re.compile(r"(PIL|pydicom)\."), 0)


def read_content(path: str | Path) -> bytes:
    """The whole of a file, for `open_picture`.

    Raises:
        UnreadableImage: there is no such file, it is no regular file or a raw photograph, it may not be read, or
            it is over 1 GiB.
    """
    if is_raw(str(path)):
        raise UnreadableImage("a camera's raw photograph; develop it to TIFF or PNG")
    try:
        status = _look_at(path)
        # Before it is opened: a named pipe would wait for its writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > _MAX_BYTES:
            raise UnreadableImage(f"{status.st_size:,} bytes; the limit is {_MAX_BYTES:,}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    except OSError as error:
        raise UnreadableImage((error.strerror or str(error)).lower()) from None


def _look_at(path: str | Path) -> os.stat_result:
    try:
        return os.stat(path)
    except ValueError:
        raise UnreadableImage("a name that no file can have") from None


def open_picture(
    content: bytes, *, window: Window = "full", least: Size | Callable[[Size], Size] | None = None
) -> Picture:
    """Decodes a file's first page to 8 bits.

    The window says which stored values become black and white; it is applied to every image and every channel alike.
    `full`: the whole range of the stored type (an 8-bit image keeps its values). `percentile`: the 0.5th and the
    99.5th percentile of the picture's own values; where they are equal, its smallest and largest; a constant picture
    is black. `(low, high)`: these values, and in between linear. DICOM's values are those after the modality LUT.

    Args:
        content: the whole file: JPEG, PNG, BMP, TIFF, WebP or DICOM, told by its first bytes.
        window: see above.
        least: width and height, after the EXIF turn, to which the caller will shrink, or a function that gives them
            for the upright picture's size. Under the window `full` a JPEG is then decoded at an eighth, a quarter or
            a half of its size, where both sides divide by that and enough pixels are left for the same result within
            a level of 255 in the mean.

    Raises:
        UnreadableImage: the file is empty, truncated, not an image, over Pillow's limit of pixels, or its pixels
            cannot be shown under this window.
    """
    if not content:
        raise UnreadableImage("the file is empty")
    # Both libraries warn of damaged metadata, which no reader of pictures needs. A filter for the whole process, and
    # once: catch_warnings, which would take it back, is not safe in threads.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_QUIET[3].pattern)
    if is_dicom(content):
        return open_dicom(content, window)
    if content.startswith(_TIFF):
        return open_tiff(content, window)
    try:
        return _open_raster(content, window, least)
    except UnreadableImage:
        raise
    except _DAMAGE as error:
        told = isinstance(error, _TOLD_DAMAGE) and str(error)
        raise UnreadableImage(told or "the file is damaged") from error


def _open_raster(content: bytes, window: Window, least: Size | Callable[[Size], Size] | None) -> Picture:
    found = next((entry for entry in _READERS if content.startswith(entry[0])), None)
    if found is None:
        raise UnreadableImage("not a JPEG, PNG, BMP, TIFF, WebP or DICOM image")
    _, name, reader = found
    # The format's own reader: Image.open warns of a large image before anyone can look at its size.
    image = reader(io.BytesIO(content))
    check_pixels(image.size)
    size, mode, bits = image.size, image.mode, 1 if image.mode == "1" else 8
    if isinstance(image, PngImagePlugin.PngImageFile):
        bits = content[24]
    if mode not in _EIGHT_BIT | _DEEP:
        raise UnreadableImage(f"{mode} pixels are not read; save the image as grey or RGB")
    if mode in _EIGHT_BIT and bits > 8 and window != "full":
        # Pillow keeps the high byte of each.
        raise UnreadableImage(f"{bits} bits a channel with colour or transparency: data.window can only be full")
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        check_scans(content)
        if window == "full" and least is not None:
            _reduce(image, least)
    image.load()
    stored = _find_stored(image, bits, window)
    shown = _to_eight_bit(image) if stored is None else _show(stored, window, image.info.get("transparency"))
    shown = turn_upright(shown, image.getexif().get(_ORIENTATION, 1))
    return Picture(shown, name, mode, bits, size, int(getattr(image, "n_frames", 1)), stored)


def _reduce(image: JpegImagePlugin.JpegImageFile, least: Size | Callable[[Size], Size]) -> None:
    """Lets libjpeg decode fewer pixels where the caller needs far fewer."""
    if image.mode not in ("L", "RGB"):
        return
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    upright = image.size[::-1] if turned else image.size
    needed = least((upright[0], upright[1])) if callable(least) else least
    width, height = needed[::-1] if turned else needed
    across, down = image.size
    for scale in (8, 4, 2):
        # Sides that do not divide get a padded last pixel, which would shift the picture.
        divides = across % scale == 0 == down % scale
        columns, rows = across / scale / width, down / scale / height
        if divides and min(columns, rows) >= _DRAFT_SIDE and columns * rows >= _DRAFT_AREA:
            image.draft(None, (across // scale, down // scale))
            return


def _find_stored(image: ImageFile.ImageFile, bits: int, window: Window) -> Stored | None:
    """The values that the window is given in; None where the 8-bit picture has them and keeps them."""
    if image.mode in _DEEP:
        return Stored(np.asarray(image), (0, 2**bits - 1))
    return None if window == "full" else Stored(np.asarray(_to_eight_bit(image)), (0, 255))


def _show(stored: Stored, window: Window, transparent: Any) -> Image.Image:
    shown = stored.show(window)
    if isinstance(transparent, int) and stored.values.itemsize > 1:
        shown[stored.values == transparent] = 0
    return Image.fromarray(shown)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)
