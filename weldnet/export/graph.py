"""A checkpoint as one graph: network and judge, and for photographs what follows decoding, and the thresholds."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from weldnet.data.decode.images import STANDARD_DEVIATION, STANDARD_MEAN, Geometry
from weldnet.evaluation.judge import Judge
from weldnet.evaluation.novelty import FeatureDistance
from weldnet.evaluation.verdicts import ACCEPT, REFER, REJECT, OperatingPoint
from weldnet.inference.checkpoint import Checkpoint
from weldnet.model.backbone import StridedConv2d
from weldnet.model.network import WeldNet

CODES = {REFER: 0, ACCEPT: 1, REJECT: 2}
"""The verdicts as numbers."""


class Distance(nn.Module):
    """`FeatureDistance.distance` of torch tensors."""

    mean: Tensor
    basis: Tensor
    whitening: Tensor
    class_means: Tensor

    def __init__(self, novelty: FeatureDistance) -> None:
        super().__init__()
        self.residual_variance = novelty.residual_variance
        for name in ("mean", "basis", "whitening", "class_means"):
            self.register_buffer(name, torch.from_numpy(getattr(novelty, name).copy()))

    def forward(self, features: Tensor) -> Tensor:
        # Centred first: a difference of squares would lose the digits that float32 has.
        centred = features - self.mean
        inner = centred @ self.basis
        residual = (centred - inner @ self.basis.T).square().sum(dim=1)
        nearest = ((inner @ self.whitening)[:, None] - self.class_means).square().mean(dim=2).amin(dim=1)
        return (nearest + residual / self.residual_variance).sqrt()


class JudgedNet(nn.Module):
    """A network with its judge, but for the thresholds, in float32; its strided convolutions are changed."""

    def __init__(self, network: WeldNet, judge: Judge) -> None:
        super().__init__()
        for module in network.modules():
            if isinstance(module, StridedConv2d):
                # OpenVINO's kernels have the fault in bfloat16 and in int8.
                module.is_exported = True
        self.network, self.temperature, self.max_distance = network, judge.temperature, judge.max_distance
        self.distances = nn.ModuleList(Distance(each) for each in judge.novelty)
        self.sizes = [len(each.mean) for each in judge.novelty]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """From uint8 (B, 3, H, W) to what `Judge.score` gives: probabilities (B, C) and distances (B,)."""
        features = self.network.features(images)
        probabilities = torch.softmax(self.network.head(features) / self.temperature, dim=1)
        members = zip(self.distances, torch.split(features, self.sizes, dim=1), strict=True)
        distances = torch.stack([distance(columns) for distance, columns in members]).mean(dim=0)
        return probabilities, distances / self.max_distance


def weigh_pixels(length: int, size: Tensor, frame: int) -> Tensor:
    """The weights float32 (frame, length) by which a side of a photograph becomes a side of the frame.

    Those of Pillow's antialiased bilinear filter, for `size` pixels (float64) in the middle; 0 for the border.
    """
    rows = torch.arange(frame, dtype=torch.float64) - torch.floor((frame - size) / 2)
    scale = length / size
    offsets = torch.arange(length, dtype=torch.float64) + 0.5 - (rows[:, None] + 0.5) * scale
    weights = torch.relu(1 - offsets.abs() / scale.clamp(min=1))
    weights = weights * torch.logical_and(rows >= 0, rows < size)[:, None]
    return (weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)).float()


def _round_up(levels: Tensor) -> Tensor:
    """To whole grey levels, halves upwards, as Pillow does between its two passes."""
    return torch.floor(levels + 0.5)


class Framing(nn.Module):
    """`to_geometry` from decoded pixels on: turn, resize, standardise, frame.

    Pillow chooses by the size which side is resized first; here it is always the width. They differ by a fraction of a
    grey level.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.height, self.width = geometry.height, geometry.width
        self.is_letterbox, self.turns = geometry.resize == "letterbox", geometry.orient == "long_side_vertical"
        self.standardises = geometry.normalize == "per_image"

    def forward(self, images: Tensor, finished: Tensor) -> Tensor:
        """From uint8 (B, 3, h, w) to whole grey levels float32 (B, 3, H, W); nothing is changed if `finished`, bool ().

        Then the images are what `to_geometry` gives.
        """
        height, width = images.shape[2:]
        if not self.turns:
            upright = self._resize(images)
            return self._standardise(upright, self._fit(height, width), finished) if self.standardises else upright
        is_turned = torch.scalar_tensor(width) > torch.scalar_tensor(height)
        # Only a wide frame would be turned for its own shape.
        if self.width > self.height:
            is_turned = torch.logical_and(is_turned, torch.logical_not(finished))
        levels: Tensor = torch.cond(is_turned, self._turn_and_resize, self._resize, (images,))
        if not self.standardises:
            return levels
        sizes = zip(self._fit(width, height), self._fit(height, width), strict=True)
        rows, columns = (torch.where(is_turned, *sides) for sides in sizes)
        return self._standardise(levels, (rows, columns), finished)

    def _fit(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Height and width, float64 (), to which a picture is resized."""
        # Made from the picture's size even where it does not count: torch.cond takes no constants in a branch.
        rows, columns = (torch.scalar_tensor(side, dtype=torch.float64) for side in (height, width))
        if not self.is_letterbox:
            return rows * 0 + self.height, columns * 0 + self.width
        scale = torch.minimum(self.width / columns, self.height / rows)
        return torch.round(rows * scale).clamp(min=1), torch.round(columns * scale).clamp(min=1)

    def _resize(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows, columns = self._fit(height, width)
        narrow = _round_up(images.float() @ weigh_pixels(width, columns, self.width).T)
        return _round_up(weigh_pixels(height, rows, self.height) @ narrow)

    def _turn_and_resize(self, images: Tensor) -> Tensor:
        """The same after a turn by 90 degrees counter-clockwise: what was the height becomes the width."""
        height, width = images.shape[2:]
        rows, columns = self._fit(width, height)
        narrow = _round_up(weigh_pixels(height, columns, self.width) @ images.float())
        return _round_up(narrow @ weigh_pixels(width, rows, self.height).flip(1).T).transpose(2, 3).contiguous()

    def _standardise(self, levels: Tensor, size: tuple[Tensor, Tensor], finished: Tensor) -> Tensor:
        """`standardise` over the pixels inside the border, which becomes the mean."""
        frame = (self.height, self.width)
        inside = []
        for pixels, side in zip(frame, size, strict=True):
            position = torch.arange(pixels, dtype=torch.float64) - torch.floor((pixels - side) / 2)
            inside.append(torch.logical_and(position >= 0, position < side).double())
        mask = inside[0][:, None] * inside[1]
        exact, count = levels.double(), 3 * size[0] * size[1]
        mean = (exact * mask).sum(dim=(1, 2, 3), keepdim=True) / count
        centred = (exact - mean) * mask
        deviation = (centred.square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt()
        changed = STANDARD_MEAN + STANDARD_DEVIATION * centred / deviation.clamp(min=1)
        return torch.where(finished, levels, changed.round().clamp(0, 255).float())


class PhotographNet(nn.Module):
    """A network with its judge and its thresholds that takes a photograph as it is, `nhwc` or `nchw`."""

    def __init__(
        self, judged: JudgedNet, geometry: Geometry, classes: list[str], point: OperatingPoint, layout: str
    ) -> None:
        super().__init__()
        self.framing, self.judged, self.is_channels_last = Framing(geometry), judged, layout == "nhwc"
        self.accept_above = math.inf if point.accept_above is None else point.accept_above
        self.reject_below = -math.inf if point.reject_below is None else point.reject_below
        good = [[float(name in point.good_classes)] for name in classes]
        self.register_buffer("good", torch.tensor(good, dtype=torch.float64))

    def forward(self, images: Tensor, finished: Tensor) -> tuple[Tensor, ...]:
        """From uint8 (B, h, w, 3) or (B, 3, h, w), as `Framing` takes them, to probabilities (B, C); distance, class
        index, score and verdict, (B,) each."""
        if self.is_channels_last:
            images = images.permute(0, 3, 1, 2)
        probabilities, distances = self.judged(self.framing(images, finished))
        # In float64, as `give_verdicts` compares.
        score = (probabilities.double() @ self.get_buffer("good")).squeeze(1).clamp(max=1)
        verdict = torch.where(score < self.reject_below, CODES[REJECT], CODES[REFER])
        verdict = torch.where(score > self.accept_above, CODES[ACCEPT], verdict)
        # So that a distance that is no number refers, too.
        verdict = torch.where(distances <= 1, verdict, CODES[REFER])
        return probabilities, distances, probabilities.argmax(dim=1), score.float(), verdict


def trace_graph(checkpoint: Checkpoint, judge: Judge, layout: str | None) -> ExportedProgram:
    """A network in float32, for batches of any size: a `PhotographNet` with this layout, or a `JudgedNet` for None."""
    # Channels-last is torch's own matter; the graph would carry its strides.
    plain = replace(checkpoint, card=checkpoint.card.model_copy(update={"channels_last": False}))
    geometry, batch, judged = checkpoint.geometry, Dim("batch", min=1), JudgedNet(plain.network(), judge)
    if layout is None:
        images = torch.zeros(2, 3, geometry.height, geometry.width, dtype=torch.uint8)
        return export(judged.eval(), (images,), dynamic_shapes={"images": {0: batch}})
    network = PhotographNet(judged, geometry, checkpoint.card.classes, judge.point, layout).eval()
    images = torch.zeros((2, 64, 48, 3) if layout == "nhwc" else (2, 3, 64, 48), dtype=torch.uint8)
    sides = {layout.index("h"): Dim("height", min=1), layout.index("w"): Dim("width", min=1)}
    shapes = {"images": {0: batch, **sides}, "finished": None}
    return export(network, (images, torch.tensor(False)), dynamic_shapes=shapes)
