"""torchvision's ResNets as backbones."""

import urllib.error
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, nn

from weldnet.errors import InputError
from weldnet.files import find_damage, is_refusal, name_failures
from weldnet.model.backbone import Backbone, guard_strides, miss_weights, read_state_dict, refuse_weights

_NAMES = torchvision.models.list_models(include=("resnet*", "resnext*", "wide_resnet*"))
RESNETS: tuple[str, ...] = tuple(sorted(_NAMES, key=len))

LAYER = "layer3"
"""Attribution's default: at 300 x 30 layer4 is one column wide."""
FINE_LAYER = "layer2"
"""That for small images: at 128 x 32 layer3 has 8 x 2 fields."""


def make_resnet(name: str, weights: str, *, zero_init_residual: bool) -> Backbone:
    """A ResNet without its last layer; it takes images of any size.

    Args:
        name: one of `RESNETS`.
        weights: `none`; `default` or a name of torchvision's, such as IMAGENET1K_V2 (found in torchvision's cache, or
            downloaded to it); or a file with a state dict.
    """
    module = torchvision.models.get_model(name, weights=None, zero_init_residual=zero_init_residual)
    num_features = module.fc.in_features
    module.fc = nn.Identity()
    guard_strides(module)
    if weights != "none":
        _load(module, name, weights)
    stages: dict[str, list[str]] = {}
    for parameter, _ in module.named_parameters():
        child = parameter.partition(".")[0]
        stages.setdefault("stem" if child in ("conv1", "bn1") else child, []).append(parameter)
    layers = {stage: stage for stage in stages if stage != "stem"}
    return Backbone(name, module, num_features, stages, layers, LAYER, supports_int8=True, fine_layer=FINE_LAYER)


def _load(module: nn.Module, name: str, weights: str) -> None:
    members = torchvision.models.get_model_weights(name).__members__
    named = {"default": members["DEFAULT"], **members}
    state = _download(named[weights]) if weights in named else read_state_dict(Path(weights), list(named))
    try:
        module.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    except RuntimeError as error:
        raise refuse_weights(weights, name, error) from error


def _download(weights: torchvision.models.WeightsEnum) -> Mapping[str, Tensor]:
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
        raise miss_weights(f"model.weights={weights.name}", weights.url, error, str(cached)) from error
    except Exception as error:
        raise InputError(f"{cached} is damaged ({type(error).__name__}); remove it and try again") from error
