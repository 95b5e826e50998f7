"""A checkpoint's network with its judge as one module."""

import torch
from torch import Tensor, nn

from weldnet.evaluation.judge import Judge
from weldnet.evaluation.novelty import FeatureDistance
from weldnet.model.backbone import StridedConv2d
from weldnet.model.network import WeldNet


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
        parts = zip(self.distances, torch.split(features, self.sizes, dim=1), strict=True)
        distances = torch.stack([distance(part) for distance, part in parts]).mean(dim=0)
        return probabilities, distances / self.max_distance
