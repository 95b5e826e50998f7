"""What an audit keeps of each image: a few numbers and a thumbnail, so that a million fit into memory."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops, ImageFilter

from weldnet.console import watch
from weldnet.data.decode.damage import READER_ERRORS
from weldnet.data.decode.formats import open_picture, read_content
from weldnet.data.decode.pictures import UnreadableImage, Window
from weldnet.data.sources.found import describe_files
from weldnet.data.thumbnails import THUMBNAIL_SIZE, Thumbnails, make_thumbnail
from weldnet.errors import count

FACTS = {
    **dict.fromkeys(("reason", "remains", "digest", "format"), pl.String()),
    "damaged": pl.Boolean(),
    **dict.fromkeys(("bits", "pages", "width", "height"), pl.Int64()),
    **dict.fromkeys(("low", "high", "range", "mean", "deviation", "black", "white"), pl.Float64()),
    **dict.fromkeys(("shadows", "lights", "red", "blue", "sharpness"), pl.Float64()),
    "taken": pl.Datetime("us"),
}
"""The columns of facts; `reason` is why an image cannot be used. It is null where all other facts but `taken`
are known. `damaged` is set where the reason is damage and part of the picture can still be decoded; `remains` says what
the file holds where nothing can.

`digest` is the file's SHA-256; `width` and `height` are of the upright picture; `low` and `high` are stored values,
`range` is the span that they could have, null where the window does not work on them or they have no bounds;
`mean` is the grey level from 0 to 255, `deviation` the largest standard deviation of a channel, `black` and `white` the
shares of pixels at 0 and at 255. `shadows` and `lights` are the grey levels below which 5 % and 95 % of the pixels lie;
`red` and `blue` the means of these channels without that of green, 0 in grey; `sharpness` see `measure_sharpness`;
`taken` see `read_date`.
"""

_CHUNK = 4096
_FIRST = 12  # bytes, which hold the signature of any format
_SIDE = 256
_LEVELS = np.arange(256)
_MOST_EXIF = 2**16


def read_facts(paths: pl.Series, window: Window, within: Path | None = None) -> tuple[pl.DataFrame, Thumbnails]:
    """Reads N files once, with all cores: `FACTS`, and thumbnails uint8 (N, 24, 24), black where unreadable.

    Files below the folder `within` may not be symbolic links that leave it.
    """
    _, unreadable = describe_files(paths, within)
    tables = [pl.DataFrame(schema=FACTS)]
    thumbnails = np.zeros((len(paths), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)

    def measure(row: int) -> dict[str, Any]:
        return {"reason": unreadable[row]} if row in unreadable else _measure(paths[row], window, thumbnails[row])

    # Threads, not processes: Pillow decodes outside the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        chunks = (range(start, min(start + _CHUNK, len(paths))) for start in range(0, len(paths), _CHUNK))
        facts = watch((each for rows in chunks for each in pool.map(measure, rows)), len(paths), "reading images")
        while chunk := list(islice(facts, _CHUNK)):
            tables.append(pl.DataFrame(chunk, schema=FACTS))
    return pl.concat(tables), thumbnails


def measure_sharpness(grey: Image.Image) -> float:
    """The share of the variance of grey levels that a mean over 3 x 3 pixels removes.

    0 where everything is smooth, 8/9 in pure noise; whatever brightness and contrast. A large picture is shrunk first.
    """
    small = grey.reduce(max(1, min(grey.size) // _SIDE))
    removed = ImageChops.difference(small, small.filter(ImageFilter.BoxBlur(1)))
    (_, square), (mean, whole) = (_find_moments(each.histogram()) for each in (removed, small))
    return float(square[0] / max(whole[0] - mean[0] ** 2, 1e-6))


def _find_moments(histogram: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the mean square of each channel; a quarter of the time of Pillow's ImageStat."""
    channels = np.reshape(histogram, (-1, 256))
    pixels = channels[0].sum()
    return channels @ _LEVELS / pixels, channels @ _LEVELS**2 / pixels


def read_date(exif: bytes) -> datetime | None:
    """When a photograph was taken, by the camera's clock; None where its EXIF, which is untrusted, does not say so.

    Over 64 KiB, which no segment of a JPEG holds, it is not read: each number in it would become an object.
    """
    if not 0 < len(exif) <= _MOST_EXIF:
        return None
    try:
        fields = Image.Exif()
        fields.load(exif)
        taken = fields.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        return datetime.strptime(taken[:19], "%Y:%m:%d %H:%M:%S")
    except READER_ERRORS:
        return None


def _describe(content: bytes) -> str:
    first = content[:_FIRST]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in first)
    return f"{count(len(content), 'byte')}, the first: {first.hex(' ')} ({text})" if first else "0 bytes"


def _measure(path: str, window: Window, thumbnail: Thumbnails) -> dict[str, Any]:
    remains = None
    try:
        content = read_content(path)
        remains = _describe(content)
        # The shares and the thumbnail need no more pixels than this.
        picture = open_picture(content, window=window, least=(_SIDE, _SIDE))
        low, high = picture.extremes
    except UnreadableImage as error:
        return {"reason": str(error), "remains": remains}
    if picture.damage:
        return {"reason": picture.damage, "damaged": True}
    full = picture.stored and picture.stored.full
    image, (width, height) = picture.image, picture.upright_size
    grey = image.convert("L")
    thumbnail[:] = make_thumbnail(grey)
    histogram, (means, squares) = grey.histogram(), _find_moments(image.histogram())
    pixels = sum(histogram)
    shadows, lights = np.searchsorted(np.cumsum(histogram), [0.05 * pixels, 0.95 * pixels])
    return {
        "digest": hashlib.sha256(content).hexdigest(),
        "format": picture.format,
        "bits": picture.bits,
        "pages": picture.pages,
        "width": width,
        "height": height,
        "low": low,
        "high": high,
        "range": full and full[1] - full[0],
        "mean": float(means.mean()),
        "deviation": np.sqrt(max(0, (squares - means**2).max())),
        "black": histogram[0] / pixels,
        "white": histogram[255] / pixels,
        "shadows": float(shadows),
        "lights": float(lights),
        "red": means[0] - means[len(means) // 2],
        "blue": means[-1] - means[len(means) // 2],
        "sharpness": measure_sharpness(grey),
        "taken": read_date(picture.exif),
    }
