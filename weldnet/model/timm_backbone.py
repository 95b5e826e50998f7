"""Any of timm's models as a backbone (extra `timm`)."""

import warnings
from bisect import bisect_left
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weldnet.errors import InputError, nearest, propose_extra
from weldnet.model.backbone import Backbone, guard_strides, miss_weights, read_state_dict, refuse_weights
from weldnet.model.resnet import RESNETS

Size = tuple[int, int]


def make_timm_backbone(name: str, size: Size | None, weights: str) -> Backbone:
    """A model of timm without its classifier.

    Its stages are the groups of timm's `group_matcher`: `stem`, `stage1`, `stage2` and so on.

    Args:
        name: one that `timm.list_models()` knows, with or without a tag of weights after a dot.
        weights: `none`; `default` or a tag (found in the caches of Hugging Face and torch, or downloaded to them); or a
            file with a state dict that timm's model saved.
    """
    name, weights, tags = _find_name(name, weights)
    import timm

    card: Any = timm.models.get_pretrained_cfg(name)
    size = size or card.input_size[1:]
    probe, outputs = _try_size(name, size, card)
    if not hasattr(probe, "group_matcher"):
        raise InputError(f"model.backbone={name}: timm does not divide this model into stages; choose a different one")
    groups = timm.models.group_parameters(probe, probe.group_matcher(coarse=True))
    stages = {f"stage{depth}" if depth else "stem": groups[depth] for depth in sorted(groups)}
    grid = getattr(getattr(probe, "patch_embed", None), "grid_size", None)
    layers = _find_layers(stages, outputs, grid)
    if len(layers) < 2:
        raise InputError(f"model.backbone={name}: no heatmap can be drawn of this model; choose a different one")
    layer = list(layers)[-2]
    if getattr(probe, "global_pool", None) == "token":
        # After the last block only the class token counts: the other tokens have no gradient.
        layers.popitem()
    if weights == "default" and not card.has_weights:
        raise InputError(f"timm has no weights for model.backbone={name}; type model.weights=FILE or none")
    source = f"https://huggingface.co/{card.hf_hub_id}" if card.hf_hub_id else card.url
    module = _load(name, size, weights, [*tags, "default"], probe, source)
    guard_strides(module)
    return Backbone(
        name,
        module,
        num_features=outputs[""].shape[1],
        stages=stages,
        layers=layers,
        layer=layer,
        mean=tuple(card.mean),
        std=tuple(card.std),
        undecayed=frozenset(getattr(probe, "no_weight_decay", set)()) & {key for key, _ in probe.named_parameters()},
        to_map=partial(_to_map, grid=grid, channels_last=getattr(probe, "output_fmt", "NCHW") == "NHWC"),
    )


def _find_name(name: str, weights: str) -> tuple[str, str, list[str]]:
    """The name with the tag of its weights; the weights, `default` in the place of a tag; all tags of the model."""
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"model.backbone={name}: allowed are {', '.join(RESNETS)}{nearest(name, RESNETS)}; for timm's models "
            f"type {propose_extra('timm')}"
        ) from error
    if not timm.is_model(name):
        guess = nearest(name, RESNETS) or nearest(name, timm.list_models())
        raise InputError(f"model.backbone={name}: allowed are {', '.join(RESNETS)}, and timm's models{guess}")
    tags = [each.partition(".")[2] for each in timm.models.get_arch_pretrained_cfgs(name)]
    architecture, _, tag = name.partition(".")
    if weights in tags:
        tag, weights = weights, "default"
    if tag and tag not in tags:
        raise InputError(f"model.backbone={name}: after the dot are allowed {', '.join(tags)}{nearest(tag, tags)}")
    return f"{architecture}.{tag}" if tag else architecture, weights, tags


def _create(name: str, size: Size, **settings: Any) -> nn.Module:
    import timm

    card: Any = timm.models.get_pretrained_cfg(name)
    if card.fixed_input_size:
        settings["img_size"] = size
    module: nn.Module = timm.create_model(name, num_classes=0, **settings)
    return module


# A command makes a network several times: of its config, and of the checkpoint for each of its steps.
@lru_cache(maxsize=4)
def _probe(name: str, size: Size) -> tuple[Any, dict[str, Any]]:
    """The model without memory for its weights, and what a pass of one image gave, by path: those of timm's
    `feature_info` and, under an empty path, the pooled features (1, F)."""
    outputs: dict[str, Any] = {}
    with torch.device("meta"), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = _create(name, size).eval()
        if any(length % step for length, step in zip(size, _find_patch(module), strict=True)):
            raise ValueError("the last pixels would be cut off")
        for path in [info["module"] for info in getattr(module, "feature_info", [])]:
            module.get_submodule(path).register_forward_hook(
                lambda _, __, output, path=path: outputs.update({path: output})
            )
        outputs[""] = module(torch.zeros(1, 3, *size))
    return module, outputs


def _try_size(name: str, size: Size, card: Any) -> tuple[Any, dict[str, Any]]:
    """What `_probe` returns, or the refusal of the size, if the model does take its own."""
    try:
        return _probe(name, size)
    # Each model refuses a size in its own way.
    except Exception as error:
        _probe(name, card.input_size[1:])
        raise _refuse_size(name, size, card.input_size[1], fixed=card.fixed_input_size) from error


def _find_patch(module: nn.Module) -> Size:
    return getattr(getattr(module, "patch_embed", None), "patch_size", (1, 1))


def _refuse_size(name: str, size: Size, own: int, *, fixed: bool) -> InputError:
    """The refusal of a size, with the smallest square that the model takes, at most its own, and a size to type."""

    def fits(height: int, width: int) -> bool:
        try:
            _probe(name, (height, width))
        except Exception:
            return False
        return True

    with torch.device("meta"):
        step = max(_find_patch(_create(name, (own, own))))
    # Without patches a fixed size is a multiple of the windows of attention and of all strides.
    sizes = range(first := step if step > 1 else 32 if fixed else 1, own + 1, first)
    index = bisect_left(sizes, True, key=lambda length: fits(length, length))
    smallest = sizes[index] if index < len(sizes) else own
    height, width = (max(smallest, -(-length // first) * first) for length in size)
    if not fits(height, width):
        height = width = smallest
    multiples = f", and height and width are multiples of {step}" if step > 1 else ""
    return InputError(
        f"model.backbone={name} does not take images of {size[0]} x {size[1]}: the smallest are {smallest} x {smallest}"
        f"{multiples}; type data.image_size.height={height} data.image_size.width={width}"
    )


def _find_layers(stages: dict[str, list[str]], outputs: dict[str, Any], grid: Size | None) -> dict[str, str]:
    """The path of the last module of each stage whose output is a map, or one token for each patch."""
    layers = {}
    for path, output in outputs.items():
        is_map = isinstance(output, Tensor) and output.ndim == 4
        is_tokens = isinstance(output, Tensor) and output.ndim == 3 and grid and output.shape[1] >= grid[0] * grid[1]
        owners = [stage for stage, names in stages.items() if any(each.startswith(f"{path}.") for each in names)]
        if owners and (is_map or is_tokens):
            layers[owners[-1]] = path
    return layers


def _to_map(output: Tensor, *, grid: Size | None, channels_last: bool) -> Tensor:
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if channels_last else output
    assert grid is not None
    # The patches' tokens follow those of the class.
    return output[:, -grid[0] * grid[1] :].mT.reshape(len(output), -1, *grid)


def _load(name: str, size: Size, weights: str, allowed: list[str], probe: nn.Module, source: str) -> nn.Module:
    if weights == "none":
        return _create(name, size)
    if weights == "default":
        try:
            return _create(name, size, pretrained=True)
        except OSError as error:
            raise miss_weights(f"model.backbone={name}", source, error) from error
    state = read_state_dict(Path(weights), allowed)
    try:
        # timm does not miss what a file does not hold.
        if missing := [key for key in probe.state_dict() if key not in state and not key.endswith("_tracked")]:
            raise RuntimeError(f"missing: {missing[0]}")
        return _create(name, size, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except RuntimeError as error:
        raise refuse_weights(weights, name, error) from error
