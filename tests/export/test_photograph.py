"""A graph that takes photographs gives what `to_geometry`, the checkpoint and `give_verdicts` give."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from calling import read_operators_once
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.evaluation.verdicts import OperatingPoint, give_verdicts
from weldnet.export.graph import CODES, Framing, PhotographNet
from weldnet.inference.onnx_format import FINISHED, OPSET

FRAMES = [
    Geometry(height, width, resize=resize, orient=orient, normalize=normalize)
    for (height, width), resize, orient, normalize in itertools.product(
        ((60, 30), (30, 50)), ("stretch", "letterbox"), ("as_is", "long_side_vertical"), ("imagenet", "per_image")
    )
]
SIZES = ((216, 384), (384, 216), (37, 501), (20, 20), (1, 300), (300, 1))


def draw(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth photograph, uint8 (h, w, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def to_channels(images: NDArray[np.uint8]) -> Tensor:
    """(B, h, w, 3) as (B, 3, h, w)."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def frame(image: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """What `to_geometry` makes of it, (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return to_geometry(file.getvalue(), geometry)[0].transpose(1, 2, 0)


@pytest.mark.parametrize("geometry", FRAMES, ids=str)
def test_framing_is_that_of_the_decoder(geometry: Geometry) -> None:
    framing = Framing(geometry)
    for size in SIZES:
        image = draw(size)
        wanted = frame(image, geometry)
        given = framing(to_channels(image[None]), torch.tensor(False))[0].permute(1, 2, 0).numpy()
        assert np.abs(given - wanted).mean() <= 0.1, size
        again = framing(to_channels(wanted[None]), torch.tensor(True))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(again, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [FRAMES[2], FRAMES[15]], ids=str)
def test_framing_in_onnx(geometry: Geometry, tmp_path: Path) -> None:
    shapes = {"images": {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}, "finished": None}
    example = (torch.zeros(2, 3, 64, 48, dtype=torch.uint8), torch.tensor(False))
    framing = Framing(geometry)
    read_operators_once()
    program = torch.export.export(framing, example, dynamic_shapes=shapes)
    converted = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET)
    assert converted is not None
    converted.save(tmp_path / "framing.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "framing.onnx", providers=["CPUExecutionProvider"])
    named = {each.name for each in session.get_inputs()}
    for size, finished in (*((each, False) for each in SIZES), ((geometry.height, geometry.width), True)):
        images = np.stack([draw(size), draw(size)[::-1]])
        given = {"images": to_channels(images).numpy(), FINISHED: np.array(finished)}
        (levels,) = session.run(None, {name: value for name, value in given.items() if name in named})
        reference = framing(to_channels(images), torch.tensor(finished)).numpy()
        assert np.abs(levels - reference).mean() <= 0.1, size


class Fixed(nn.Module):
    """Gives each image the scores that it was made with."""

    def __init__(self, probabilities: Tensor, distances: Tensor) -> None:
        super().__init__()
        self.scores = probabilities, distances

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores


@pytest.mark.parametrize("limits", [(0.8, 0.2), (0.8, None), (None, 0.2), (None, None), (0.5, 0.5)])
@pytest.mark.parametrize("good", [("good",), ("good", "fair"), ()])
def test_the_verdict_is_the_rule(limits: tuple[float | None, float | None], good: tuple[str, ...]) -> None:
    """Scores on both sides of each threshold, and just on it; distances, too."""
    classes = ["good", "fair", "pore"]
    around = [
        value for limit in (0.2, 0.5, 0.8) for value in (np.float32(limit), *np.nextafter(np.float32(limit), [0, 1]))
    ]
    shares = np.array([*around, 0.0, 1.0], np.float32)
    distances = np.array([0.5, 1.0, np.nextafter(np.float32(1), np.float32(2)), 3.0], np.float32)
    sound, distance = (each.ravel() for each in np.meshgrid(shares, distances))
    rows = np.stack([sound, 0.25 * (1 - sound), 0.75 * (1 - sound)], axis=1)
    point = OperatingPoint(*limits, good, 0.05, 0.05, 0.95, 100, 100)
    judged: Any = Fixed(torch.tensor(rows), torch.tensor(distance))
    network = PhotographNet(judged, Geometry(4, 4), classes, point, "nhwc")
    outputs = network(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.tensor(False))
    _, _, wanted = give_verdicts(rows.astype(np.float64), distance.astype(np.float64), classes, point)
    assert outputs[4].tolist() == [CODES[str(verdict)] for verdict in wanted]
    assert outputs[2].tolist() == rows.argmax(axis=1).tolist()


def test_what_is_no_number_is_referred() -> None:
    judged: Any = Fixed(torch.tensor([[1.0, 0.0], [np.nan, np.nan]]), torch.tensor([np.nan, 0.5]))
    point = OperatingPoint(0.5, 0.5, ("good",), *(0.05,) * 3, 1, 1)
    network = PhotographNet(judged, Geometry(4, 4), ["good", "pore"], point, "nchw")
    assert network(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor(False))[4].tolist() == [0, 0]
