"""WeldNet against plain torchvision, and where its weights come from."""

import pickle
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.models
from drawing import draw_noise
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import Compose, Normalize, ToTensor

from weldnet.errors import InputError
from weldnet.model.backbone import IMAGENET_MEAN, IMAGENET_STD, StridedConv2d
from weldnet.model.network import WeldNet, make_backbone
from weldnet.model.resnet import RESNETS

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")

State = dict[str, Tensor]


def random_images(batch: int = 4, height: int = 64, width: int = 32) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


def plain_model(backbone: str, num_classes: int = 5) -> torchvision.models.ResNet:
    """A torchvision model with batch norm statistics that are not those of a new one."""
    model = torchvision.models.get_model(backbone, weights=None, num_classes=num_classes)
    assert isinstance(model, torchvision.models.ResNet)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def copy_weights(network: WeldNet, model: torchvision.models.ResNet) -> WeldNet:
    network.trunk.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")})
    network.head.load_state_dict(model.fc.state_dict())
    return network.eval()


def normalise(images: Tensor) -> Tensor:
    """As the plain recipe does: ToTensor on each picture, then Normalize."""
    transform = Compose([ToTensor(), Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))])
    return torch.stack([transform(image.permute(1, 2, 0).numpy()) for image in images])


@pytest.mark.parametrize("channels_last", [True, False])
def test_normalisation_is_torchvisions(channels_last: bool) -> None:
    network = WeldNet("resnet18", 2, channels_last=channels_last)
    network.trunk = nn.Identity()
    images = torch.from_numpy(draw_noise(20, 10).transpose(2, 0, 1).copy())[None]
    torch.testing.assert_close(network.features(images), normalise(images), rtol=0, atol=1e-6)
    torch.testing.assert_close(network.features(images.float()), normalise(images), rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(
    "backbone",
    [name if name == "resnet18" else pytest.param(name, marks=pytest.mark.slow) for name in RESNETS],
)
def test_logits_are_torchvisions(backbone: str) -> None:
    torch.manual_seed(0)
    model = plain_model(backbone)
    images = random_images(2, 100, 30)
    expected = model(normalise(images))
    scale = max(1.0, float(expected.abs().max()))
    made = make_backbone(backbone)
    for channels_last in (True, False):
        network = copy_weights(WeldNet(made, 5, channels_last=channels_last), model)
        torch.testing.assert_close(network(images) / scale, expected / scale, rtol=0, atol=1e-5)


def test_unknown_backbone() -> None:
    with pytest.raises(InputError, match=r"model\.backbone=resnet51: .*did you mean 'resnet5?0?1?5?0?'"):
        WeldNet("resnet51", 2)


def fill_heap_with_nan() -> None:
    """Whatever is left unwritten in memory that is used again then shows."""
    for size in (2**10, 2**14, 2**18, 2**20, 2**22):
        del [torch.full((size,), torch.nan) for _ in range(8)][:]


@torch.inference_mode()
@pytest.mark.parametrize("channels_last", [True, False])
def test_bfloat16_on_the_cpu_is_about_float32(channels_last: bool) -> None:
    """Guards against unwritten rows from oneDNN, see StridedConv2d."""
    torch.manual_seed(0)
    network = copy_weights(WeldNet("resnet18", 5, channels_last=channels_last), plain_model("resnet18"))
    images = random_images(4, 300, 30)
    expected = network(images)
    for _ in range(3):
        fill_heap_with_nan()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images).float()
        assert (logits - expected).norm() / expected.norm() < 0.03


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_strided_convolution_on_narrow_images(width: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = StridedConv2d(64, 64, 3, stride=2, padding=1, bias=False).to(memory_format=memory_format)
    x = torch.randn(4, 64, 19, width).to(memory_format=memory_format)
    weight = conv.weight.detach().clone().requires_grad_()
    expected = functional.conv2d(x, weight, stride=2, padding=1)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)
    for _ in range(5):
        fill_heap_with_nan()
        with torch.autocast("cpu", torch.bfloat16):
            result = conv(x)
        (gradient,) = torch.autograd.grad(result.float().square().sum(), conv.weight)
        assert result.shape == expected.shape
        assert (result.float() - expected).norm() / expected.norm() < 0.02
        assert (gradient - expected_gradient).norm() / expected_gradient.norm() < 0.02


def train_briefly(network: WeldNet) -> None:
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(random_images(4, 32, 16)), torch.tensor([0, 1, 0, 1]))
        torch.autograd.backward(loss)
        optimizer.step()


def changed_stages(network: WeldNet, before: State) -> set[str]:
    """The stages in which any weight or batch norm statistic differs."""
    names = {id(value): name for name, value in network.state_dict(keep_vars=True).items()}
    return {
        stage
        for stage in STAGES
        for module in network.stage(stage)
        for value in module.state_dict(keep_vars=True).values()
        if not torch.equal(value, before[names[id(value)]])
    }


@pytest.mark.parametrize("through", [None, "stem", "layer2", "layer4"])
def test_frozen_stages_stand_still(through: str | None) -> None:
    network = WeldNet("resnet18", 2)
    network.freeze(through)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train_briefly(network)
    learning = set(STAGES[STAGES.index(through) + 1 :] if through else STAGES)
    assert changed_stages(network, before) == learning
    network.eval()
    network.freeze(None)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not network.training, "freezing leaves the mode alone"
    train_briefly(network)
    assert changed_stages(network, before) == set(STAGES)


def test_head_cannot_be_frozen() -> None:
    with pytest.raises(InputError, match=r"model\.freeze_through=head: allowed are stem, layer1"):
        WeldNet("resnet18", 2).freeze("head")


def test_stages_hold_every_parameter_once() -> None:
    network = WeldNet("resnet18", 2)
    listed = [id(parameter) for _, parameters in network.stages() for parameter in parameters]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())


CACHED = [
    ("resnet18", "IMAGENET1K_V1", "resnet18-f37072fd.pth"),
    pytest.param("resnet50", "IMAGENET1K_V1", "resnet50-0676ba61.pth", marks=pytest.mark.slow),
    pytest.param("resnet50", "IMAGENET1K_V2", "resnet50-11ad3fa6.pth", marks=pytest.mark.slow),
]


def save_weights(file: Path, backbone: str) -> State:
    """A state dict as torchvision's files are: without the count of batches."""
    state = plain_model(backbone, 1000).state_dict()
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return state


def check_trunk(network: WeldNet, state: State) -> None:
    trunk = network.trunk.state_dict()
    expected = {name for name in state if not name.startswith("fc.")}
    assert {name for name in trunk if not name.endswith("num_batches_tracked")} == expected
    for name in expected:
        assert torch.equal(trunk[name], state[name]), name


@pytest.mark.parametrize(("backbone", "name", "cached_as"), CACHED)
def test_trunk_starts_from_file_or_cache(tmp_path: Path, backbone: str, name: str, cached_as: str) -> None:
    state = save_weights(tmp_path / "my weights.pth", backbone)
    network = WeldNet(make_backbone(backbone, weights=str(tmp_path / "my weights.pth")), 3)
    check_trunk(network, state)
    assert network.head.weight.shape == (3, network.backbone.num_features)
    state = save_weights(Path(torch.hub.get_dir(), "checkpoints", cached_as), backbone)
    check_trunk(WeldNet(make_backbone(backbone, weights=name), 3), state)


def test_without_weights_it_starts_as_torchvisions() -> None:
    torch.manual_seed(0)
    module = make_backbone("resnet18", weights="none").module
    torch.manual_seed(0)
    expected = torchvision.models.resnet18(weights=None).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def unplug(*_: Any, **__: Any) -> None:
    raise URLError("unplugged")


@pytest.mark.parametrize(
    ("backbone", "name", "file"),
    [
        ("resnet18", "IMAGENET1K_V1", "resnet18-f37072fd.pth"),
        ("resnet18", "DEFAULT", "resnet18-f37072fd.pth"),
        ("resnet18", "default", "resnet18-f37072fd.pth"),
        ("resnet50", "IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
    ],
)
def test_without_cache_and_network(monkeypatch: pytest.MonkeyPatch, backbone: str, name: str, file: str) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", unplug)
    monkeypatch.setattr("torch.hub.urlopen", unplug)
    with pytest.raises(InputError) as caught:
        make_backbone(backbone, weights=name)
    for part in (
        f"https://download.pytorch.org/models/{file}",
        str(Path(torch.hub.get_dir(), "checkpoints", file)),
        "model.weights=FILE",
        "model.weights=none",
    ):
        assert part in str(caught.value)


def test_damaged_cache_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.urlopen", unplug)
    cached = Path(torch.hub.get_dir(), "checkpoints", "resnet18-f37072fd.pth")
    save_weights(cached, "resnet18")
    whole = cached.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>captive portal</html>"):
        cached.write_bytes(content)
        with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth is damaged"):
            make_backbone("resnet18", weights="IMAGENET1K_V1")


class Evil:
    """Creates the file `touched` when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    file, touched = tmp_path / "weights.pth", tmp_path / "touched"

    def refuse(message: str) -> None:
        with pytest.raises(InputError, match=message):
            make_backbone("resnet18", weights=str(file))
        assert not touched.exists()

    refuse(r"allowed are default, IMAGENET1K_V1, DEFAULT, none, or a file, and there is no such file")
    for content in (b"", b"garbage", pickle.dumps(Evil(touched))):
        file.write_bytes(content)
        refuse("is not a state dict that loads without running code")
    for value in (Evil(touched), {"conv1.weight": Evil(touched)}, np.zeros(3)):
        torch.save(value, file)
        refuse("is not a state dict that loads without running code")
    for plain in ([torch.zeros(2)], {"state_dict": plain_model("resnet18").state_dict()}, {"epoch": 3}):
        torch.save(plain, file)
        refuse(r"is not a state dict: save it by torch\.save\(model\.state_dict\(\), FILE\)")
    for state in (plain_model("resnet34").state_dict(), {}, {1: torch.zeros(2)}, {"fc.weight": torch.zeros(2)}):
        torch.save(state, file)
        refuse(r"does not fit model\.backbone=resnet18|is not a state dict")
    save_weights(file, "resnet18")
    file.write_bytes(file.read_bytes()[:-1000])
    refuse("is not a state dict that loads without running code")


def test_code_in_the_tests_own_file_would_run(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    torch.save(Evil(tmp_path / "touched"), tmp_path / "weights.pth")
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "touched").exists()
