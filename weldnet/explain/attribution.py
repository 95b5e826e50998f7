"""Attribution: the evidence for a class as a map over the photograph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from weldnet.errors import check_choice
from weldnet.explain.settings import HeatmapSettings
from weldnet.hardware.devices import exact_float32
from weldnet.model.backbone import keep
from weldnet.model.ensemble import Ensemble
from weldnet.model.network import WeldNet

Map = NDArray[np.float32]
Image = NDArray[np.uint8]

METHODS = ("grad_cam", "hires_cam", "integrated_gradients")
"""The second is the default: below the last stage plain Grad-CAM misses the defect in some networks."""

NUM_STEPS = 50
"""Points on the path of integrated gradients."""
CHUNK_PIXELS = 2**18
"""Pixels that pass through the network at once: 29 images of 300 x 30; half a gigabyte for a ResNet50's gradients."""

OVERLAY_PX = 900
"""An overlay's longer side is near to this."""
GAP_PX = 12


class Explanation(NamedTuple):
    """Maps float32 (B, H, W) in 0..1, and how many rows and columns (h, w) of evidence they were drawn from."""

    maps: Map
    resolution: tuple[int, int]


def explain_images(
    network: WeldNet,
    images: Tensor,
    targets: Tensor,
    method: str = HeatmapSettings.method,
    layer: str | None = HeatmapSettings.layer,
) -> Explanation:
    """The positive evidence for a class at each pixel, as a share of the image's strongest; see `attribute`.

    Of an ensemble it is the mean of its members' evidence: where all are sure, its own logits have no gradient.

    Args:
        layer: one of `network.backbone.layers`; None for the backbone's own at this size.

    Raises:
        InputError: no such method or layer.
    """
    backbone, layer = network.backbone, layer or network.backbone.choose_layer(*images.shape[2:])
    check_choice("layer", layer, list(backbone.layers))
    members = network.members if isinstance(network, Ensemble) else [network]
    evidence = [
        attribute(member, member.trunk.get_submodule(backbone.layers[layer]), images, targets, method, backbone.to_map)
        for member in members
    ]
    return scale_evidence(torch.stack(evidence).mean(dim=0), images.shape[2:])


def scale_evidence(evidence: Tensor, size: torch.Size) -> Explanation:
    """Evidence (B, h, w) as maps of size (H, W) whose maximum is 1; a map without positive evidence is zero.

    They are bilinear between the points of `resolution` and right to about half their distance.
    """
    height, width = evidence.shape[1:]
    positive = functional.interpolate(evidence.relu()[:, None], size=tuple(size), mode="bilinear")[:, 0]
    peak = positive.amax(dim=(1, 2), keepdim=True)
    return Explanation((positive / peak.where(peak > 0, 1)).numpy(), (height, width))


def attribute(
    network: nn.Module,
    layer: nn.Module,
    images: Tensor,
    targets: Tensor,
    method: str = "grad_cam",
    to_map: Callable[[Tensor], Tensor] = keep,
) -> Tensor:
    """The evidence for and, below zero, against a class, in units of its logit; float32 on the CPU.

    - `grad_cam`: sum over k of A_k times the mean of d logit / d A_k, A the layer's output: (B, h, w). Selvaraju et
      al. 2017, arXiv:1610.02391, before the ReLU.
    - `hires_cam`: sum over k of A_k times d logit / d A_k, point by point: (B, h, w). The same as Grad-CAM in
      the last stage, where every point weighs the same. On layer3 Grad-CAM's mean gradient fits no point: there its map
      may miss the defect, seed by seed, and this one keeps to it. Draelos and Carin 2020, arXiv:2011.08891.
    - `integrated_gradients`: the gradient's mean on the straight path from the image's mean colour to the image, times
      their difference, summed over the colours: (B, H, W). It sums to the difference of the two logits. Sundararajan et
      al. 2017, arXiv:1703.01365.

    Args:
        network: images to logits (B, C), not compiled, with float32 weights; left as it was found.
        layer: a module of it; integrated gradients ignore it.
        images: (B, 3, H, W) from 0 to 255, uint8 or float; B at least 1, on any device.
        targets: (B,) int64, the class of each map.
        to_map: turns the layer's output into (B, K, h, w).
    """
    check_choice("method", method, METHODS)
    device = next(network.parameters()).device
    # The steps of a path are a batch of their own.
    chunk = 1 if method == "integrated_gradients" else _chunk_size(images)
    chunks = []
    with _frozen(network, device):
        for start in range(0, len(images), chunk):
            # Copies: a tensor of the caller's inference mode cannot be part of a graph.
            pixels = images[start : start + chunk].to(device, torch.float32, copy=True)
            classes = targets[start : start + chunk].to(device, copy=True)
            if method == "integrated_gradients":
                evidence = _integrate_gradients(network, pixels, classes)
            else:
                activations, gradients = map(to_map, _differentiate(network, layer, pixels, classes))
                if method == "grad_cam":
                    gradients = gradients.mean(dim=(2, 3), keepdim=True)
                evidence = (activations * gradients).sum(dim=1)
            chunks.append(evidence.detach().cpu())
    return torch.cat(chunks)


def _chunk_size(images: Tensor) -> int:
    return max(1, CHUNK_PIXELS // (images.shape[2] * images.shape[3]))


def _differentiate(network: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's output, and the gradient of each image's logit there."""
    # Not captum's: its layers are maps, and a transformer's are tokens.
    outputs: list[Tensor] = []
    # The weights are frozen, so the gradients start at the pixels.
    with layer.register_forward_hook(lambda _, __, output: outputs.append(output)):
        logits = network(images.requires_grad_())
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), outputs)
    return outputs[0], gradients


def _integrate_gradients(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients

    # From black, captum's default, dark pixels get no evidence, and cracks and pores are dark.
    start = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    evidence: Tensor = IntegratedGradients(network).attribute(
        images, start, targets, n_steps=NUM_STEPS, internal_batch_size=_chunk_size(images)
    )
    return evidence.sum(dim=1)


@contextmanager
def _frozen(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, float32, gradients for activations only; afterwards the network is as it was."""
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            exact_float32(),
        ):
            network.eval().requires_grad_(False)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _fade_in() -> ListedColormap:
    """Plasma, safe for the colour-blind, unlike bare metal in colour, and the more opaque the stronger."""
    strengths = np.linspace(0, 1, 256)
    colours = colormaps["plasma"](strengths)
    colours[:, 3] = 0.75 * strengths
    return ListedColormap(colours)


def find_stretch(height: int, width: int) -> int:
    """By how much the width of an image is stretched where it is drawn: upright strips twice."""
    return 2 if height >= 4 * width else 1


def draw_overlay(image: Image, evidence: Map) -> Image:
    """The photograph (3, H, W) beside itself under its map (H, W), enlarged by whole pixels: (H', W', 3)."""
    height, width = evidence.shape
    stretch = find_stretch(height, width)
    scale = max(1, OVERLAY_PX // max(height, stretch * width))
    photograph = image.transpose(1, 2, 0).astype(np.float64)
    colours = _fade_in()(evidence)
    alpha = colours[..., 3:]
    covered = (1 - alpha) * photograph + alpha * 255 * colours[..., :3]
    left, right = (x.repeat(scale, axis=0).repeat(stretch * scale, axis=1) for x in (photograph, covered))
    gap = np.full((height * scale, GAP_PX, 3), 255.0)
    return np.concatenate([left, gap, right], axis=1).round().astype(np.uint8)
