"""The origin recipe in weldnet is the public recipe in plain PyTorch, step by step.

The loop below is that recipe as its notebook has it: torchvision's model and transforms, PIL, Adam at 0.001.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import torchvision.models
from drawing import SEAM, write_welds
from omegaconf import DictConfig
from PIL import Image
from torch import nn
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from training_runs import Losses, make_trainer, quiet

from weldnet.config.build import build_data, build_model, check_nodes
from weldnet.config.schema import TrainConfig, register_schema
from weldnet.data.datamodule import WeldDataModule

STEPS = 6


def files_in_order(data: WeldDataModule) -> Iterator[list[tuple[str, int]]]:
    """The batches of path and class number, epoch after epoch, as weldnet draws them."""
    samples = data.samples("train")
    for epoch in range(STEPS):
        sampler: Any = data.train_dataloader().sampler
        sampler.set_epoch(epoch)
        for rows in sampler:
            yield [(samples["path"][row], data.classes.index(samples["label"][row])) for row in rows]


def plain_losses(model: nn.Module, data: WeldDataModule) -> list[float]:
    size = (data.geometry.height, data.geometry.width)
    transform = Compose([Resize(size), ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    # Fused, the same sums have a different order, and Adam divides by roots of them: a few steps show it.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    criterion = nn.CrossEntropyLoss()
    losses = []
    model.train()
    for _, batch in zip(range(STEPS), files_in_order(data), strict=False):
        images = torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in batch])
        optimizer.zero_grad()
        loss = criterion(model(images), torch.tensor([label for _, label in batch]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compose_origin(root: Path, overrides: list[str]) -> DictConfig:
    register_schema("train", TrainConfig)
    with hydra.initialize_config_module("weldnet.configs", version_base="1.3"):
        cfg = hydra.compose("train", ["experiment=origin", "data=folder", "seed=3", *overrides])
    cfg.data.root, cfg.data.group_pattern = str(root), SEAM
    check_nodes(cfg)
    return cfg


def weldnet_losses(
    cfg: DictConfig, data: WeldDataModule, plain: torchvision.models.ResNet, folder: Path
) -> list[float]:
    model = build_model(cfg, data, weights="none")
    trunk = {name: value for name, value in plain.state_dict().items() if not name.startswith("fc.")}
    model.network.trunk.load_state_dict(trunk)
    model.network.head.load_state_dict(plain.fc.state_dict())
    note = Losses()
    trainer = make_trainer(folder, max_steps=STEPS, max_epochs=-1, precision=cfg.trainer.precision, callbacks=[note])
    trainer.fit(model, datamodule=data)
    return note.losses


@pytest.mark.slow
@quiet
def test_first_losses_agree(tmp_path: Path) -> None:
    root = write_welds(tmp_path / "welds", ("crack", "no_defect", "pore"), shots=4, size=(160, 40))
    # The recipe itself, a ResNet50, but for its batches of 32 and images of 300 x 30.
    cfg = compose_origin(root, ["data.batch_size=8", "data.image_size.height=64"])
    data = build_data(cfg.data, cfg.seed)
    data.setup()
    torch.manual_seed(1)
    plain = torchvision.models.get_model(cfg.model.backbone, weights=None, num_classes=len(data.classes))
    assert isinstance(plain, torchvision.models.ResNet)
    ours = weldnet_losses(cfg, data, plain, tmp_path)
    expected = plain_losses(plain, data)
    assert len(ours) == STEPS
    assert min(expected) < 0.8 * expected[0], "the recipe learns"
    assert ours == pytest.approx(expected, abs=1e-3)
