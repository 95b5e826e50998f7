"""The settings of the network's input."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ImageSize:
    """Pixels, 1 to 4096."""

    height: int = 300
    width: int = 30


@dataclass
class Framing:
    """How a picture fills the image, and which stored values become black and white; see `read_image`."""

    resize: str = "stretch"
    orient: str = "as_is"
    window: Any = "full"
