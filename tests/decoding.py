"""One file in the network's geometry, without a cache."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weldnet.data.decode.formats import read_content
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.decode.pictures import Window


def read_image(
    path: str | Path,
    *,
    height: int,
    width: int,
    resize: str = "stretch",
    orient: str = "as_is",
    window: Window = "full",
    normalize: str = "imagenet",
) -> NDArray[np.uint8]:
    """uint8 (3, height, width)."""
    return to_geometry(read_content(path), Geometry(height, width, resize, orient, window, normalize))[0]
