"""Backbone: a network from normalised pixels to pooled features, and what the rest of weldnet asks of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from weldnet.errors import InputError, first_line
from weldnet.files import find_damage

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def keep(output: Tensor) -> Tensor:
    """A layer's output that is a map already."""
    return output


FINE_PIXELS = 8192
"""32 fields of 16 x 16 pixels."""


@dataclass(frozen=True)
class Backbone:
    """A network and the facts that training, attribution and export need.

    Attributes:
        name: as `model.backbone` takes it.
        module: from normalised images (B, 3, H, W) to pooled features (B, F).
        num_features: F.
        stages: the names of the module's parameters by stage, from the pixels up; every parameter belongs to one.
        layers: paths of the modules whose outputs attribution can use, by stage.
        layer: the key of `layers` that attribution uses by default.
        fine_layer: the same for images of fewer than `FINE_PIXELS`, where the map of `layer` has too few fields.
        mean, std: of RGB pixels from 0 to 1, as the weights expect them.
        undecayed: parameters without weight decay, beside biases and norms.
        supports_int8: whether quantisation to int8 is tested on this kind of network.
        to_map: turns the output of a layer, or its gradient, into (B, K, h, w).
    """

    name: str
    module: nn.Module
    num_features: int
    stages: Mapping[str, Sequence[str]]
    layers: Mapping[str, str]
    layer: str
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    undecayed: frozenset[str] = frozenset()
    supports_int8: bool = False
    to_map: Callable[[Tensor], Tensor] = keep
    fine_layer: str | None = None

    def choose_layer(self, height: int, width: int) -> str:
        """The layer that attribution uses for images of a size, unless one is named."""
        return self.fine_layer if self.fine_layer and height * width < FINE_PIXELS else self.layer


class StridedConv2d(nn.Conv2d):
    """A convolution with stride, correct on narrow images in bfloat16 on the CPU.

    oneDNN's AMX kernel (seen in 3.13.3, with torch 2.15) leaves most rows of the result unwritten where a 3 x 3 kernel
    with stride 2 gives a result one column wide, as layer4 does at 300 x 30. Two columns of zeros on the right
    make it two wide; the first column is the answer.
    """

    is_exported = False
    """Whether the graph will run elsewhere, so that the columns are always added."""

    def forward(self, x: Tensor) -> Tensor:
        is_half = torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16
        is_at_risk = self.is_exported or (x.device.type == "cpu" and is_half)
        if x.shape[3] > 2 or not is_at_risk:
            return super().forward(x)
        return super().forward(functional.pad(x, (0, 2)))[..., :1]


def guard_strides(module: nn.Module) -> None:
    """Turns the 3 x 3 convolutions with stride 2 into `StridedConv2d`, in place."""
    for conv in module.modules():
        shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) if type(conv) is nn.Conv2d else None
        if shape == ((3, 3), (2, 2), (1, 1), (1, 1)):
            conv.__class__ = StridedConv2d


def read_state_dict(file: Path, allowed: Sequence[str]) -> dict[str, Tensor]:
    """Reads `model.weights=FILE` (torch's or `.safetensors`) without running code; `allowed` are its names."""
    if not file.is_file():
        raise InputError(
            f"model.weights={file}: allowed are {', '.join(allowed)}, none, or a file, and there is no such file"
        )
    if damage := find_damage(file):
        raise InputError(f"model.weights={file} is not a state dict that loads without running code: {damage}")
    try:
        state: Any
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    # A damaged or hostile file raises nearly anything here; each means the same to the user.
    except Exception as error:
        raise InputError(f"model.weights={file} is not a state dict that loads without running code") from error
    is_plain = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    if not is_plain or not state:
        raise InputError(f"model.weights={file} is not a state dict: save it by torch.save(model.state_dict(), FILE)")
    return dict(state)


def refuse_weights(weights: str, backbone: str, error: RuntimeError) -> InputError:
    """The refusal of weights that belong to a different network, from the error of `load_state_dict`."""
    lines = str(error).splitlines()
    return InputError(
        f"model.weights={weights} does not fit model.backbone={backbone}: {lines[min(1, len(lines) - 1)].strip()[:300]}"
    )


def miss_weights(key: str, source: str, error: Exception, cached: str = "") -> InputError:
    """The refusal of published weights that cannot be downloaded from `source`, to `cached` where that is one file."""
    return InputError(
        f"the weights of {key} are not in the cache, and cannot be downloaded from {source} ({first_line(error)}): "
        f"{f'save them as {cached}, or ' if cached else ''}type one of\n"
        "  experiment=scratch   start from random weights, by the recipe for that (ResNets)\n"
        "  model.weights=none   start from random weights, by the recipe that you typed\n"
        "  model.weights=FILE   a state dict (.safetensors, or saved by torch) that you have"
    )
