"""The only decoder: a file becomes an array here and nowhere else."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from weldnet.errors import InputError, check_choice

DECODER_VERSION = 1
"""Part of every cache key: raise it when the same file would decode to other pixels."""

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
RESIZES = ("stretch", "letterbox")
ORIENTS = ("as_is", "long_side_vertical")

WINDOWS = ("full", "percentile")

Window = str | tuple[float, float]

_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP")
_EIGHT_BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


def check_window(window: Any) -> Window:
    """A window as `read_image` takes it, from what a person or a file gave.

    Raises:
        InputError: it is none of `full`, `percentile` or two numbers, the first below the second.
    """
    if window in WINDOWS:
        return str(window)
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if isinstance(window, str) or not (low < high and math.isfinite(high - low)):
        raise InputError(
            f"data.window={window}: allowed are {', '.join(WINDOWS)} and [low,high] in stored values, low below high"
        )
    return low, high


@dataclass(frozen=True)
class Geometry:
    """How a file becomes the network's input, as `read_image` takes it: size in pixels, resize, orientation, window."""

    height: int = 300
    width: int = 30
    resize: str = "stretch"
    orient: str = "as_is"
    window: Window = "full"

    def __post_init__(self) -> None:
        for name, size in (("height", self.height), ("width", self.width)):
            if not 1 <= size <= 4096:
                raise InputError(f"data.image_size.{name}={size}: allowed are 1 to 4096 pixels")
        check_choice("data.resize", self.resize, RESIZES)
        check_choice("data.orient", self.orient, ORIENTS)
        object.__setattr__(self, "window", check_window(self.window))


class UnreadableImage(InputError):
    """A file that is not an image this decoder reads; the message says why, without the path."""


def read_image(
    path: str | Path,
    *,
    height: int,
    width: int,
    resize: str = "stretch",
    orient: str = "as_is",
    window: Window = "full",
) -> NDArray[np.uint8]:
    """Decodes one file to the network's geometry.

    EXIF orientation is applied first, then `orient`, then the resize (bilinear with antialiasing, as torchvision's
    `Resize` does on a PIL image). Grey becomes three equal channels; transparent pixels are laid over black.

    Args:
        path: an 8-bit JPEG, PNG, BMP, TIFF or WebP file.
        height, width: the result's size in pixels.
        resize: `stretch` to the size, or `letterbox`: keep the aspect and fill the rest with black.
        orient: `as_is`, or `long_side_vertical`: turn an image that is wider than high by 90 degrees.

    Returns:
        uint8 array of shape (3, height, width), RGB, 0 to 255.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, not an image, or grey of more than 8 bits.
    """
    try:
        with Image.open(path, formats=_FORMATS) as file:
            image = _to_rgb(ImageOps.exif_transpose(file))
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    except UnidentifiedImageError:
        reason = "the file is empty" if Path(path).stat().st_size == 0 else "not a JPEG, PNG, BMP, TIFF or WebP image"
        raise UnreadableImage(reason) from None
    # Pillow's decoders report a damaged file by any of these.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error
    if orient == "long_side_vertical" and image.width > image.height:
        image = image.transpose(Image.Transpose.ROTATE_90)
    if resize == "letterbox":
        scale = min(width / image.width, height / image.height)
        # A very long strip keeps at least one pixel across.
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        picture, image = image.resize(size, Image.Resampling.BILINEAR), Image.new("RGB", (width, height))
        image.paste(picture, ((width - size[0]) // 2, (height - size[1]) // 2))
    else:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode not in _EIGHT_BIT:
        # convert("RGB") would clip a 16-bit radiograph to white without a word.
        raise UnreadableImage(f"{image.mode} pixels; 8 bits a channel are needed")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")
