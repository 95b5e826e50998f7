"""Every format of the decoder: from a file's bytes to a picture of 8 bits."""

import io
import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from weldnet.data.decode.damage import READER_ERRORS, blame_file, check_png, check_webp
from weldnet.data.decode.dicom import open_dicom
from weldnet.data.decode.jpeg import choose_scale, decode_jpeg, open_jpeg
from weldnet.data.decode.pictures import (
    MAX_PIXELS,
    Picture,
    Size,
    Stored,
    UnreadableImage,
    Window,
    check_pixels,
    turn_upright,
)
from weldnet.data.decode.signatures import HEAD, find_format, is_raw
from weldnet.data.decode.tiff import open_tiff
from weldnet.data.settings import Framing

_MAX_BYTES = 2**30
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
_ORIENTATION = 274
_STRIP = 2**20
"""Pixels that are laid over black at once."""
_QUIET = ("ignore", None, UserWarning, re.compile(r"(PIL|pydicom)\."), 0)


def read_content(path: str | Path) -> bytes:
    """The whole of a file of up to 1 GiB, for `open_picture`; refuses raw photographs and what cannot be read."""
    if is_raw(str(path)):
        raise UnreadableImage("a camera's raw photograph; develop it to TIFF or PNG")
    try:
        # Before it is opened: a named pipe would wait for its writer for ever.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size > _MAX_BYTES:
            raise UnreadableImage(f"{status.st_size:,} bytes; the limit is {_MAX_BYTES:,}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    except OSError as error:
        raise UnreadableImage((error.strerror or str(error)).lower()) from None
    except UnreadableImage:
        raise
    except ValueError:
        raise UnreadableImage("a name that no file can have") from None


def open_picture(
    content: bytes,
    *,
    window: Window = Framing.window,
    least: Size | Callable[[Size], Size] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Decodes a file's first page to 8 bits.

    The window sets which stored values become black and white; it is applied to every image and every channel alike.
    `full`: the whole range of the stored type (an 8-bit image keeps its values). `percentile`: the 0.5th and the
    99.5th percentile of the picture's own values; where they are equal, its smallest and largest; a constant picture
    is black. `(low, high)`: these values, and in between linear. DICOM's values are those after the modality LUT.

    Args:
        content: the whole file: JPEG, PNG, BMP, TIFF, WebP or DICOM, recognised by its first bytes.
        least: width and height, after the EXIF turn, to which the caller will shrink, or a function that gives them
            for the upright picture's size. Under the window `full` a JPEG is then decoded at an eighth, a quarter or
            a half of its size, where both sides divide by that and enough pixels are left for the same result within
            a level of 255 in the mean.
        max_pixels: that the file's header may claim; checked before any pixel is decoded.

    Raises:
        UnreadableImage: it is empty, truncated, no image, over the limit, or cannot be shown under this window.
    """
    if not content:
        raise UnreadableImage("the file is empty")
    # Both libraries warn of damaged metadata, which no reader of pictures needs. A filter for the whole process, and
    # once: catch_warnings, which would take it back, is not safe in threads.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_QUIET[3].pattern)
    name = find_format(content[:HEAD])
    if name == "DICOM":
        return open_dicom(content, window, max_pixels)
    if name == "TIFF":
        return open_tiff(content, window, max_pixels)
    if name == "JPEG" or name in _READERS:
        return _open_raster(name, content, window, least, max_pixels)
    kind = f"{name}, " if name else ""
    remedy = "; convert it to PNG or TIFF, such as by ImageMagick: magick FILE NEW.png" if kind else ""
    raise UnreadableImage(f"{kind}not a JPEG, PNG, BMP, TIFF, WebP or DICOM image{remedy}")


def _open_raster(
    name: str, content: bytes, window: Window, least: Size | Callable[[Size], Size] | None, max_pixels: int
) -> Picture:
    image: ImageFile.ImageFile
    if name == "JPEG":
        image, content, damage = open_jpeg(content)
    else:
        content, damage = check_png(content) if name == "PNG" else (content, None)
        # The format's own reader: Image.open warns of a large image before its size can be checked.
        with blame_file(name):
            image = _READERS[name](io.BytesIO(content))
    check_pixels(image.size, max_pixels)
    # Pillow reads grey of 16 bits as it is, and of other 16 bits a channel the high byte of each.
    size, is_deep, bits = image.size, image.mode.startswith("I"), 1 if image.mode == "1" else 8
    if isinstance(image, PngImagePlugin.PngImageFile):
        bits = content[24]
    if bits > 8 and not is_deep and window != "full":
        raise UnreadableImage(
            f"{bits} bits a channel with colour or transparency have no window; train with data.window=full"
        )
    pixels: Image.Image = image
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        can_shrink = window == "full" and image.mode in ("L", "RGB")
        scale = choose_scale(size, _find_turn(image) >= 5, least) if least and can_shrink else 1
        pixels, met = decode_jpeg(image, content, scale)
        damage = damage or met
    else:
        with blame_file(name):
            image.load()
        if name == "WEBP":
            damage = check_webp(content, image)
    stored = None
    if is_deep:
        stored = Stored(np.asarray(image), (0, 2**bits - 1))
    elif window != "full":
        stored = Stored(np.asarray(_to_eight_bit(pixels)), (0, 255))
    shown = _to_eight_bit(pixels) if stored is None else _show(stored, window, image.info.get("transparency"))
    shown = turn_upright(shown, _find_turn(image))
    pages, exif = int(getattr(image, "n_frames", 1)), image.info.get("exif", b"")
    return Picture(shown, name, bits, size, pages, stored, damage, exif)


def _find_turn(image: ImageFile.ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except READER_ERRORS:
        # No picture is worse for metadata that cannot be read.
        return 1


def _show(stored: Stored, window: Window, transparent: Any) -> Image.Image:
    shown = stored.show(window)
    if isinstance(transparent, int) and stored.values.itemsize > 1:
        shown[stored.values == transparent] = 0
    return Image.fromarray(shown)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        return _lay_over_black(image)
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _lay_over_black(image: Image.Image) -> Image.Image:
    shown = Image.new("L" if image.mode == "LA" else "RGB", image.size)
    # Some rows at a time: as a whole, a picture of the largest size allowed would need a gigabyte more.
    step = max(1, _STRIP // image.width)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height))).convert("RGBA")
        shown.paste(strip, (0, top), strip)
    return shown
