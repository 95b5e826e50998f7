#!/usr/bin/env python3
"""What an integrator's own preprocessing does to verdicts: before a fixed input, and before one that takes photographs.

    scripts/preprocessing.py RUN [num_images]

RUN is calibrated, and predicts drawn welds (data=synthetic). It needs `pip install opencv-python-headless`. Each way is
compared with `weldnet-predict`'s own: the finished image's grey levels, the class, `unlike_training`, the verdict.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from own_python import use_own_python

use_own_python()

import numpy as np
import onnxruntime
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from rich.table import Table

from weldnet.console import print_table
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.errors import InputError
from weldnet.evaluation.verdicts import give_verdicts
from weldnet.export.exporter import require_judge
from weldnet.export.graph import CODES, trace_graph
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.engines import Scores
from weldnet.inference.finished_runs import find_checkpoint
from weldnet.inference.onnx_format import OUTPUTS, write_onnx
from weldnet.inference.torch_engine import TorchEngine
from weldnet.synthetic.drawn_set import write_synthetic

Pixels = NDArray[np.uint8]


def find_ways(cv2: Any, geometry: Geometry) -> dict[str, Callable[[Path], Pixels]]:
    """What an integrator writes, by name: before a fixed input, from a file to uint8 (H, W, 3)."""
    size = (geometry.width, geometry.height)

    def resize(file: Path, interpolation: int) -> Pixels:
        pixels: Pixels = cv2.resize(
            cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB), size, interpolation=interpolation
        )
        return pixels

    return {
        "Pillow, bilinear": lambda file: np.asarray(
            Image.open(file).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        ),
        "OpenCV, INTER_LINEAR": lambda file: resize(file, cv2.INTER_LINEAR),
        "OpenCV, INTER_AREA": lambda file: resize(file, cv2.INTER_AREA),
        "Pillow, B G R": lambda file: np.asarray(
            Image.open(file).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        )[..., ::-1],
    }


def find_decoders(cv2: Any) -> dict[str, Callable[[Path], Pixels]]:
    """What an integrator writes before an input that takes photographs, by name: from a file to uint8 (h, w, 3)."""
    return {
        "Pillow": lambda file: np.asarray(Image.open(file).convert("RGB")),
        "OpenCV": lambda file: cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB),
        "simplejpeg": lambda file: simplejpeg.decode_jpeg(file.read_bytes()),
    }


def run(ckpt_path: str, num_images: int) -> Table:
    """Compares all ways."""
    try:
        import cv2
    except ImportError:
        raise InputError("OpenCV is missing; type: pip install opencv-python-headless") from None
    checkpoint = load_checkpoint(find_checkpoint(ckpt_path))
    judge, engine, geometry = require_judge(checkpoint), TorchEngine(checkpoint, "cpu"), checkpoint.geometry
    if replace(geometry, height=1, width=1) != Geometry(1, 1):
        raise InputError("the table is for data.resize=stretch, data.orient=as_is, data.normalize=imagenet")
    classes, point = checkpoint.card.classes, judge.point
    with tempfile.TemporaryDirectory() as name:
        # Seams that no run with a usual seed has seen.
        write_synthetic(Path(name) / "welds", num_images=num_images, num_seams=num_images // 12, seed=1_000_003)
        files = sorted((Path(name) / "welds" / "images").rglob("*.jpg"))
        graph = trace_graph(checkpoint, judge, "nhwc")
        session = onnxruntime.InferenceSession(write_onnx(graph, Path(name)), providers=["CPUExecutionProvider"])

        def decide(images: list[Pixels]) -> tuple[Any, Any, Any]:
            """Class, unlike training and verdict of finished images, (H, W, 3) each."""
            scores = [engine.score(np.ascontiguousarray(image.transpose(2, 0, 1))[None]) for image in images]
            joined = Scores(*map(np.concatenate, zip(*scores, strict=True)))
            _, unlike, verdicts = give_verdicts(*joined, classes, point)
            return joined.probabilities.argmax(axis=1), unlike, np.array([CODES[str(each)] for each in verdicts])

        own = [to_geometry(file.read_bytes(), geometry)[0].transpose(1, 2, 0) for file in files]
        wanted = decide(own)
        counts = [int((wanted[2] == code).sum()) for code in CODES.values()]
        shown = ", ".join(f"{count} {verdict}" for verdict, count in zip(CODES, counts, strict=True))
        columns = ("input", "way", "mean pixel error", "other class", "unlike training changes", "verdict changes")
        table = Table(*columns, title=f"{len(files)} drawn photographs: {shown}", title_justify="left")

        def add(kind: str, way: str, error: str, given: tuple[Any, Any, Any]) -> None:
            changes = (100 * np.mean(before != after) for before, after in zip(wanted, given, strict=True))
            table.add_row(kind, way, error, *(f"{change:.1f} %" for change in changes))

        for way, read in find_ways(cv2, geometry).items():
            images = [read(file) for file in track(files, way)]
            error = np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(images, own, strict=True)])
            add("fixed", way, f"{error:.2f}", decide(images))
        for way, read in find_decoders(cv2).items():
            rows = [session.run(OUTPUTS, {"images": read(file)[None]}) for file in track(files, way)]
            outputs = dict(zip(OUTPUTS, map(np.concatenate, zip(*rows, strict=True)), strict=True))
            add("photograph", way, "inside", (outputs["class_index"], outputs["distance"] > 1, outputs["verdict"]))
    return table


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: scripts/preprocessing.py RUN [num_images]")
    torch.set_num_threads(1)
    try:
        print_table(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 480))
    except InputError as refusal:
        print(f"preprocessing.py: {refusal}", file=sys.stderr)
        sys.exit(2)
