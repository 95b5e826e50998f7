"""Heatmaps against autograd, what they leave behind, and how they are drawn."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from boxes import share_inside
from torch import Tensor, nn

from weldnet.errors import InputError
from weldnet.explain import attribution as explanation
from weldnet.explain.attribution import METHODS, Explanation, attribute, draw_overlay, explain_images, scale_evidence
from weldnet.model.network import WeldNet

LAYER = 4


def make_network(*ending: nn.Module) -> nn.Sequential:
    """(B, 3, H, W) to 3 logits; every point of layer 4 weighs differently."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
        *ending,
    )


def draw_images(num_images: int = 5, height: int = 24, width: int = 12) -> tuple[Tensor, Tensor]:
    """Noise uint8 (N, 3, H, W) and classes (N,) below 3."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (num_images, 3, height, width), dtype=torch.uint8, generator=generator)
    return images, torch.arange(num_images) % 3


def explain(
    network: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, method: str = "grad_cam"
) -> Explanation:
    return scale_evidence(attribute(network, layer, images, targets, method), images.shape[2:])


def count_hooks(network: nn.Module) -> int:
    return sum(len(vars(m)[name]) for m in network.modules() for name in vars(m) if name.endswith("_hooks"))


def differentiate(network: nn.Sequential, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's output (B, K, h, w) and the gradient of each image's logit there."""
    activations = network[: LAYER + 1](images.float()).detach().requires_grad_()
    logits = network[LAYER + 1 :](activations).gather(1, targets[:, None])
    return activations.detach(), torch.autograd.grad(logits.sum(), activations)[0]


def test_cams_are_those_of_the_papers() -> None:
    network, (images, targets) = make_network().eval(), draw_images()
    activations, gradients = differentiate(network, images, targets)
    grad_cam = (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(1)
    hires_cam = (gradients * activations).sum(1)
    torch.testing.assert_close(attribute(network, network[LAYER], images, targets), grad_cam)
    torch.testing.assert_close(attribute(network, network[LAYER], images, targets, "hires_cam"), hires_cam)
    found = explain(network, network[LAYER], images, targets)
    large = nn.Upsample((24, 12), mode="bilinear")(grad_cam.relu()[:, None])[:, 0]
    np.testing.assert_allclose(found.maps, large / large.amax((1, 2), keepdim=True), atol=1e-6)
    assert found.maps.dtype == np.float32
    assert found.resolution == (6, 3)


def test_integrated_gradients_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    # Noise bends the path often; 50 steps leave an error of 0.05.
    monkeypatch.setattr(explanation, "NUM_STEPS", 400)
    network, (images, targets) = make_network().eval(), draw_images()
    start = images.float().mean(dim=(2, 3), keepdim=True).expand(images.shape)
    with torch.no_grad():
        difference = (network(images.float()) - network(start)).gather(1, targets[:, None])[:, 0]
    evidence = attribute(network, network[LAYER], images, targets, "integrated_gradients")
    assert evidence.shape == (5, 24, 12)
    torch.testing.assert_close(evidence.sum((1, 2)), difference, rtol=0, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_batch_is_one_by_one(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "NUM_STEPS", 5)
    network, (images, targets) = make_network(), draw_images()
    together = attribute(network, network[LAYER], images, targets, method)
    alone = [attribute(network, network[LAYER], images[i : i + 1], targets[i : i + 1], method) for i in range(5)]
    torch.testing.assert_close(torch.cat(alone), together)
    monkeypatch.setattr(explanation, "CHUNK_PIXELS", 2 * 24 * 12)
    torch.testing.assert_close(attribute(network, network[LAYER], images.float(), targets, method), together)


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the network is broken")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_network_is_left_as_it_was(method: str, fails: bool) -> None:
    network, (images, targets) = make_network(*[Failing()] * fails), draw_images()
    network.train()[1].eval()
    network[0].requires_grad_(False)
    network[2].register_forward_hook(lambda *_: None)
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(RuntimeError, match="broken") if fails else nullcontext():
        explain(network, network[LAYER], images, targets, method)
    assert count_hooks(network) == 1
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_hooks_are_counted() -> None:
    network = make_network()
    network[LAYER].register_forward_pre_hook(lambda *_: None)
    network[0].register_full_backward_hook(lambda *_: None)
    assert count_hooks(network) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "context",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_callers_context_changes_nothing(method: str, context: Callable[[], AbstractContextManager[None]]) -> None:
    network, (images, targets) = make_network().requires_grad_(False), draw_images()
    plain = explain(network, network[LAYER], images, targets, method).maps
    with context():
        # Made in here, they are inference tensors.
        inside = explain(network, network[LAYER], images.float(), targets.clone(), method).maps
    np.testing.assert_array_equal(inside, plain)


@pytest.mark.parametrize("method", METHODS)
def test_weldnet(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "NUM_STEPS", 5)
    torch.manual_seed(0)
    network = WeldNet("resnet18", 3)
    network.freeze("layer4")
    same = WeldNet("resnet18", 3, channels_last=False)
    same.load_state_dict(network.state_dict())
    images, targets = draw_images(1, 300, 30)
    found = explain_images(network, images, targets, method)
    other = explain(same, same.trunk.get_submodule("layer3"), images, targets, method)
    np.testing.assert_allclose(found.maps, other.maps, atol=1e-3)
    assert found.resolution == ((300, 30) if method == "integrated_gradients" else (19, 2))
    assert found.maps.shape == (1, 300, 30)
    assert found.maps.min() >= 0
    assert found.maps.max() == 1


def test_no_evidence_is_a_map_of_zeros() -> None:
    network, (images, targets) = make_network(), draw_images()
    network[8].get_parameter("weight").data.fill_(-1)
    assert not explain(network, network[LAYER], images, targets).maps.any()


def test_unknown_method() -> None:
    network, (images, targets) = make_network(), draw_images()
    with pytest.raises(InputError, match="did you mean 'grad_cam'"):
        explain(network, network[LAYER], images, targets, "gradcam")


def test_share_inside() -> None:
    even = np.ones((10, 4), np.float32)
    assert share_inside(even, (1, 2, 3, 7)) == pytest.approx(10 / 40)
    assert share_inside(even, (0.5, 0, 1.25, 0.5)) == pytest.approx(0.75 * 0.5 / 40)
    assert share_inside(even, (-5, -5, 50, 50)) == pytest.approx(1)
    assert share_inside(0 * even, (0, 0, 4, 10)) == 0
    point = np.zeros((10, 4), np.float32)
    point[6, 2] = 0.3
    assert share_inside(point, (2, 6, 3, 7)) == pytest.approx(1)
    assert share_inside(point, (0, 0, 2, 10)) == 0


@pytest.mark.parametrize(("height", "width", "scale", "stretch"), [(300, 30, 3, 2), (64, 64, 14, 1), (1000, 800, 1, 1)])
def test_overlay(height: int, width: int, scale: int, stretch: int) -> None:
    image = draw_images(1, height, width)[0][0].numpy()
    evidence = np.zeros((height, width), np.float32)
    evidence[: height // 2] = 1
    overlay = draw_overlay(image, evidence)
    assert overlay.dtype == np.uint8
    assert overlay.shape == (scale * height, 2 * scale * stretch * width + explanation.GAP_PX, 3)
    left, right = overlay[:, : scale * stretch * width], overlay[:, -scale * stretch * width :]
    np.testing.assert_array_equal(left[::scale, :: scale * stretch], image.transpose(1, 2, 0))
    np.testing.assert_array_equal(right[scale * height // 2 :], left[scale * height // 2 :])
    assert (right[: scale * height // 2] != left[: scale * height // 2]).any(axis=2).mean() > 0.9


@pytest.mark.parametrize(
    ("height", "width", "layer"), [(300, 30, "layer3"), (96, 96, "layer3"), (128, 32, "layer2"), (32, 16, "layer2")]
)
def test_small_images_are_explained_by_an_earlier_layer(height: int, width: int, layer: str) -> None:
    network = WeldNet("resnet18", 2)
    images, targets = torch.zeros(1, 3, height, width, dtype=torch.uint8), torch.tensor([0])
    named = explain_images(network, images, targets, "hires_cam", layer)
    assert explain_images(network, images, targets).resolution == named.resolution
