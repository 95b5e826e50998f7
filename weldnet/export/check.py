"""Runs this export on the images of check/; exits with 1 where it differs from when it was made: `python check.py`."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent


def check(run: Callable[[Any], Mapping[str, Any]]) -> None:
    """Compares the outputs that `run` gives by name for `images` with the expected ones."""
    differs = False
    for case in json.loads((FOLDER / "check" / "expected.json").read_text(encoding="utf-8")):
        image = np.asarray(Image.open(FOLDER / "check" / case["file"]).convert("RGB"))[None]
        given = run(image.transpose(0, 3, 1, 2) if case["layout"] == "nchw" else image)
        expected = {name: np.array(values) for name, values in case["outputs"].items()}
        errors = {n: (np.abs(np.ravel(given[n]) - v) / np.maximum(v, 1)).max() for n, v in expected.items()}
        differs |= not all(error <= case["tolerance"] for error in errors.values())
        print(case["file"], *(f"{name} {error:.2g}" for name, error in errors.items()))
    sys.exit("these differences are too large: do not use this export here" if differs else 0)
