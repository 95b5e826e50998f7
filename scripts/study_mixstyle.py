"""MixStyle, a factor of the study: a callback that mixes the statistics of feature maps among the images of a batch."""

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributions import Beta
from torch.utils.hooks import RemovableHandle

EPSILON = 1e-6


class MixStyle(Callback):
    """Mixes the means and deviations of feature maps with those of another image of the batch, in training.

    Reference: Zhou, Yang, Qiao and Xiang, Domain Generalization with MixStyle, 2021.

    Args:
        stages: modules of the backbone whose outputs are mixed.
        probability: of a batch, at each of them.
        alpha: of the Beta distribution of the mixing weights.
    """

    def __init__(self, stages: tuple[str, ...] = ("layer1", "layer2"), probability: float = 0.5, alpha: float = 0.1):
        self.stages, self.probability, self.beta = stages, probability, Beta(alpha, alpha)
        self.handles: list[RemovableHandle] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, module in pl_module.named_modules():
            if name.rpartition(".")[2] in self.stages:
                self.handles.append(module.register_forward_hook(self._mix))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for handle in self.handles:
            handle.remove()

    def _mix(self, module: nn.Module, _: object, features: Tensor) -> Tensor | None:
        if not module.training or torch.rand(()) >= self.probability:
            return None
        mean, deviation = (each.detach() for each in statistics(features))
        share = self.beta.sample((len(features), 1, 1, 1)).to(features)
        other = torch.randperm(len(features), device=features.device)
        plain = (features - mean) / deviation
        return plain * mix(deviation, other, share) + mix(mean, other, share)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each channel of each image, (batch, channels, 1, 1)."""
    return features.mean((2, 3), keepdim=True), (features.var((2, 3), keepdim=True) + EPSILON).sqrt()


def mix(values: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Each image's values, `share` of them its own."""
    return share * values + (1 - share) * values[other]
