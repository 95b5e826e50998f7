"""timm's models as backbones, against timm and autograd."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from weldnet.errors import InputError, propose_extra
from weldnet.explain.attribution import explain_images
from weldnet.model.network import WeldNet, make_backbone
from weldnet.model.optimizers import parameter_groups

NAMES = ("test_convnext", "test_vit", "test_mambaout", "test_resnet")
SIZE = (64, 32)


def draw_images(height: int = 64, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


def save_model(name: str, file: Path, size: tuple[int, int] = SIZE) -> Any:
    """Saves a model with its classifier of 1000 classes; returns it in evaluation mode."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"img_size": size} if name == "test_vit" else {}
    model = timm.create_model(name, **settings).eval()
    if file.suffix == ".safetensors":
        save_file(model.state_dict(), file)
    else:
        torch.save(model.state_dict(), file)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("name", NAMES)
def test_features_are_timms(tmp_path: Path, name: str, ending: str) -> None:
    model = save_model(name, tmp_path / f"weights.{ending}")
    network = WeldNet(make_backbone(name, SIZE, str(tmp_path / f"weights.{ending}")), 3).eval()
    config = timm.models.get_pretrained_cfg(name)
    assert config is not None
    images = draw_images()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    model.reset_classifier(0)
    torch.testing.assert_close(network.features(images), model((images / 255 - mean) / std), rtol=1e-4, atol=1e-4)


def test_weights_of_a_different_size(tmp_path: Path) -> None:
    model = save_model("test_vit", tmp_path / "weights.pt", (160, 160))
    module = make_backbone("test_vit", SIZE, str(tmp_path / "weights.pt")).module
    assert torch.equal(
        module.get_parameter("blocks.0.attn.qkv.weight"), model.get_parameter("blocks.0.attn.qkv.weight")
    )
    assert module.get_parameter("pos_embed").shape == (1, 1 + 4 * 2, 64)
    save_model("test_vit2", tmp_path / "other.pt")
    for file in ("other.pt", "weights.pt"):
        with pytest.raises(InputError, match=r"does not fit model\.backbone=test_convnext: missing: stem\.0\.weight"):
            make_backbone("test_convnext", SIZE, str(tmp_path / file))


@pytest.mark.parametrize("name", [*NAMES, "vit_tiny_patch16_224"])
def test_stages_hold_every_parameter_once(name: str) -> None:
    network = WeldNet(make_backbone(name, SIZE), 3)
    listed = [id(parameter) for _, parameters in network.stages() for parameter in parameters]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    assert network.stage_names[:2] == ("stem", "stage1")


def test_rates_and_decay_of_a_transformer() -> None:
    network = WeldNet(make_backbone("test_vit", SIZE), 3)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = {names[id(each)]: group for group in parameter_groups(network, 1.0, 0.5) for each in group["params"]}
    assert set(groups) == set(names.values())
    rates = {name: group["lr"] for name, group in groups.items()}
    assert (rates["head.weight"], rates["trunk.norm.weight"], rates["trunk.blocks.5.mlp.fc1.weight"]) == (1, 0.5, 0.5)
    assert (rates["trunk.blocks.0.mlp.fc1.weight"], rates["trunk.pos_embed"]) == (0.5**6, 0.5**7)
    for name in ("trunk.pos_embed", "trunk.cls_token", "head.bias", "trunk.norm.weight"):
        assert groups[name]["weight_decay"] == 0
    assert "weight_decay" not in groups["trunk.patch_embed.proj.weight"]


def test_heatmaps_of_tokens() -> None:
    torch.manual_seed(0)
    network = WeldNet(make_backbone("test_vit", (64, 48)), 3).eval()
    images, targets = draw_images(64, 48), torch.tensor([2, 0])
    block, rest = network.trunk.get_submodule("blocks.2"), network.trunk.get_submodule("blocks")[3:]  # type: ignore[index]
    kept: list[Tensor] = []
    with block.register_forward_hook(lambda _, __, output: kept.append(output)):
        network(images)
    tokens = kept[0].detach().requires_grad_()
    logits = network.head(network.trunk.get_submodule("norm")(rest(tokens))[:, 0])
    (gradients,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), tokens)
    for method, weights in (("hires_cam", gradients), ("grad_cam", gradients[:, 1:].mean(dim=1, keepdim=True))):
        # The first token is the class's; the others are the patches, row by row.
        expected = (weights * tokens)[:, 1:].sum(dim=2).reshape(2, 4, 3).relu().detach()
        found = explain_images(network, images, targets, method, "stage3")
        assert found.resolution == (4, 3)
        large = nn.functional.interpolate(expected[:, None], (64, 48), mode="bilinear")[:, 0]
        torch.testing.assert_close(torch.from_numpy(found.maps), large / large.amax((1, 2), keepdim=True))


@pytest.mark.parametrize(("name", "layer"), [("test_vit", "stage5"), ("test_mambaout", "stage3")])
def test_the_default_layer_shows_evidence(name: str, layer: str) -> None:
    torch.manual_seed(0)
    network = WeldNet(make_backbone(name, SIZE), 3)
    assert network.backbone.layer == layer
    maps, (rows, columns) = explain_images(network, draw_images(), torch.tensor([0, 1]))
    assert maps.any()
    assert rows == 2 * columns
    with pytest.raises(InputError, match="layer=stage6: allowed are stage1"):
        explain_images(network, draw_images(), torch.tensor([0, 1]), layer="stage6")


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=f"allowed are resnet18, .*{re.escape(propose_extra('timm'))}"):
        make_backbone("convnext_tiny")
    assert make_backbone("resnet18").num_features == 512


def test_without_cache_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def create_offline(name: str, *, pretrained: bool = False, **settings: Any) -> nn.Module:
        if pretrained:
            raise OSError("unplugged")
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", create_offline)
    with pytest.raises(InputError, match=r"downloaded from https://huggingface\S+ \(unplugged\): type one of\n"):
        make_backbone("resnet10t", weights="default", size=SIZE)
