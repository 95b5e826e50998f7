"""WeldNet: a torchvision ResNet from uint8 pixels to logits."""

import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional

from weldnet.errors import InputError, check_choice
from weldnet.files import find_damage, is_refusal, name_failures

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
"""From the pixels to the logits; `stem` is the first convolution with its batch norm."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class StridedConv2d(nn.Conv2d):
    """A convolution with stride, correct on narrow images in bfloat16 on the CPU.

    oneDNN's AMX kernel (seen in 3.13.3, with torch 2.15) leaves most rows of the result unwritten where a 3 x 3 kernel
    with stride 2 gives a result one column wide, as layer4 does at 300 x 30. Two columns of zeros on the right
    make it two wide; the first column is the answer.
    """

    def forward(self, x: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16
        if x.device.type != "cpu" or x.shape[3] > 2 or not half:
            return super().forward(x)
        return super().forward(functional.pad(x, (0, 2)))[..., :1]


def _guard_strides(trunk: nn.Module) -> None:
    """Replaces the 3 x 3 convolutions with stride by `StridedConv2d`, the weights shared."""
    for parent in list(trunk.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2) and conv.kernel_size == (3, 3):
                channels = (conv.in_channels, conv.out_channels)
                guarded = StridedConv2d(*channels, 3, stride=2, padding=1, groups=conv.groups, bias=False)
                guarded.weight = conv.weight
                parent.register_module(name, guarded)


class WeldNet(nn.Module):
    """Scaling, ImageNet normalisation, a ResNet trunk and a new last layer.

    Args:
        backbone: one of `BACKBONES`.
        num_classes: C.
        channels_last: compute in channels-last memory, the faster layout on most hardware; values stay the same.
        zero_init_residual: start each residual block as the identity; helps from random weights.

    Raises:
        InputError: no such backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, num_classes: int, *, channels_last: bool = True, zero_init_residual: bool = False
    ) -> None:
        super().__init__()
        check_choice("model.backbone", backbone, BACKBONES)
        self.backbone, self.channels_last = backbone, channels_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trunk = torchvision.models.get_model(backbone, weights=None, zero_init_residual=zero_init_residual)
        self.head = nn.Linear(self.trunk.fc.in_features, num_classes)
        self.trunk.fc = nn.Identity()
        _guard_strides(self.trunk)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.frozen: tuple[str, ...] = ()
        self.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> Tensor:
        """Args:
            images: (B, 3, H, W) RGB from 0 to 255, uint8 or float.

        Returns:
            Logits (B, C).
        """
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The pooled features (B, F) of images as `forward` takes them."""
        x = images.to(self.mean.dtype, memory_format=self.memory_format).div(255).sub(self.mean).div(self.std)
        features: Tensor = self.trunk(x)
        return features

    def stage(self, name: str) -> list[nn.Module]:
        """The modules of one of `STAGES`."""
        if name == "head":
            return [self.head]
        return [self.trunk.conv1, self.trunk.bn1] if name == "stem" else [getattr(self.trunk, name)]

    def stages(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """Name and parameters of each stage, from the pixels to the logits."""
        for name in STAGES:
            yield name, [parameter for module in self.stage(name) for parameter in module.parameters()]

    def freeze(self, through: str | None) -> None:
        """Freezes the stages from the stem through the named one; None sets all free.

        A frozen stage keeps its batch norm statistics, too.

        Raises:
            InputError: no such stage.
        """
        if through is not None:
            check_choice("model.freeze_through", through, STAGES[:-1])
        self.frozen = STAGES[: STAGES.index(through) + 1] if through else ()
        for name, parameters in self.stages():
            for parameter in parameters:
                parameter.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "WeldNet":
        super().train(mode)
        for name in self.frozen:
            for module in self.stage(name):
                module.eval()
        return self

    def load_trunk(self, weights: str | None) -> None:
        """Starts the trunk from ImageNet's or a file's weights; the head stays new.

        Args:
            weights: a name of torchvision's weights for this backbone, such as IMAGENET1K_V2 (found in torchvision's
                cache, or downloaded to it); a file with a state dict saved by torchvision; None or `none` changes
                nothing.

        Raises:
            InputError: the weights are not to be had, or belong to another network.
        """
        if weights is None or weights == "none":
            return
        named = torchvision.models.get_model_weights(self.backbone).__members__
        state = _download(named[weights]) if weights in named else _read_state(Path(weights), list(named))
        trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
        try:
            self.trunk.load_state_dict(trunk)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise InputError(
                f"model.weights={weights} does not fit model.backbone={self.backbone}: {reason[:300]}"
            ) from error


def _download(weights: "torchvision.models.WeightsEnum") -> Mapping[str, Tensor]:
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    # torch.hub compares a hash only when it downloads.
    if cached.is_file() and (damage := find_damage(cached)):
        raise InputError(f"{cached} is damaged ({damage}); remove it and try again")
    try:
        with name_failures(cached):
            state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        return state
    except (urllib.error.URLError, OSError) as error:
        if is_refusal(error):
            raise
        raise InputError(
            f"model.weights={weights.name} is neither in the cache nor to be had from the network ({error}).\n"
            f"  file:  {weights.url}\n"
            f"  cache: {cached}\n"
            "Put the file there, or type one of\n"
            "  model.weights=FILE   a state dict that lies elsewhere\n"
            "  model.weights=none   start from random weights"
        ) from error
    except Exception as error:
        raise InputError(f"{cached} is damaged ({type(error).__name__}); remove it and try again") from error


def _read_state(file: Path, names: list[str]) -> Mapping[str, Tensor]:
    if not file.is_file():
        raise InputError(
            f"model.weights={file}: allowed are {', '.join(names)}, none, or a file, and there is no such file"
        )
    if damage := find_damage(file):
        raise InputError(f"model.weights={file} is not a state dict that loads without running code: {damage}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # A damaged or hostile file raises nearly anything here; each means the same to the user.
    except Exception as error:
        raise InputError(f"model.weights={file} is not a state dict that loads without running code") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"model.weights={file} is not a state dict: save it by torch.save(model.state_dict(), FILE)")
    return state
