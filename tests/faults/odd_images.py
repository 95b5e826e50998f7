"""All generated image files: what cameras, detectors and damage make of a picture, and what must become of each.

`python tests/faults/odd_images.py DIR` writes them, to look at.
"""

import sys
from pathlib import Path

from odd_dicoms import make_dicoms
from odd_image import OddImage
from odd_jpegs import make_jpegs
from odd_rasters import make_rasters
from odd_tiffs import make_tiffs


def make_odd_images() -> list[OddImage]:
    return [*make_jpegs(), *make_rasters(), *make_tiffs(), *make_dicoms()]


if __name__ == "__main__":
    for image in make_odd_images():
        Path(sys.argv[1], image.name).write_bytes(image.content)
