"""WeldNet: a backbone and a last layer, from uint8 pixels to logits."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from weldnet.errors import InputError, check_choice
from weldnet.model.backbone import Backbone
from weldnet.model.resnet import RESNETS, make_resnet
from weldnet.model.settings import ModelSettings
from weldnet.model.timm_backbone import Size, make_timm_backbone

HEAD = "head"
"""The stage above those of the backbone."""


def make_backbone(
    name: str,
    size: Size | None = None,
    weights: str = "none",
    *,
    zero_init_residual: bool = ModelSettings.zero_init_residual,
) -> Backbone:
    """A backbone by name: one of `RESNETS`, or a model of timm.

    Args:
        size: height and width of the images; None for the backbone's own.
        weights: `none`, `default`, a name of the backbone's weights, or a file with a state dict.
        zero_init_residual: start each residual block of a ResNet as the identity; helps from random weights.
    """
    if name in RESNETS:
        return make_resnet(name, weights, zero_init_residual=zero_init_residual)
    if zero_init_residual:
        raise InputError(f"model.zero_init_residual=true works with {', '.join(RESNETS)} only")
    return make_timm_backbone(name, size, weights)


class WeldNet(nn.Module):
    """Scaling, normalisation, a backbone and a new last layer.

    Args:
        backbone: the backbone, or the name of one for `make_backbone`.
        num_classes: C.
        channels_last: compute in channels-last memory, the faster layout on most hardware; values stay the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone | str, num_classes: int, *, channels_last: bool = ModelSettings.channels_last
    ) -> None:
        super().__init__()
        self.backbone = make_backbone(backbone) if isinstance(backbone, str) else backbone
        self.channels_last = channels_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trunk = self.backbone.module
        self.head = nn.Linear(self.backbone.num_features, num_classes)
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std).view(1, 3, 1, 1), persistent=False)
        self.frozen: tuple[str, ...] = ()
        self.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W), RGB from 0 to 255, uint8 or float."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The pooled features (B, F) of images as `forward` takes them."""
        x = images.to(self.mean.dtype, memory_format=self.memory_format).div(255).sub(self.mean).div(self.std)
        features: Tensor = self.trunk(x)
        return features

    @property
    def stage_names(self) -> tuple[str, ...]:
        """From the pixels to the logits: those of the backbone and `HEAD`."""
        return (*self.backbone.stages, HEAD)

    def stage(self, name: str) -> list[nn.Module]:
        """The modules that hold the parameters of a stage."""
        if name == HEAD:
            return [self.head]
        paths = dict.fromkeys(parameter.rpartition(".")[0] for parameter in self.backbone.stages[name])
        return [self.trunk.get_submodule(path) for path in paths]

    def stages(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """Name and parameters of each stage, from the pixels to the logits."""
        for name, parameters in self.backbone.stages.items():
            yield name, [self.trunk.get_parameter(parameter) for parameter in parameters]
        yield HEAD, list(self.head.parameters())

    def freeze(self, through: str | None) -> None:
        """Freezes the stages from the stem through the named one, with batch norm statistics; None sets all free."""
        if through is not None:
            check_choice("model.freeze_through", through, self.stage_names[:-1])
        self.frozen = self.stage_names[: self.stage_names.index(through) + 1] if through else ()
        for name, parameters in self.stages():
            for parameter in parameters:
                parameter.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "WeldNet":
        super().train(mode)
        for name in self.frozen:
            for module in self.stage(name):
                module.training = False
        return self
