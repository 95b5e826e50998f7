"""The origin recipe in weldnet is the public recipe in plain PyTorch, step by step.

The loop below is that recipe as its notebook has it: torchvision's model and transforms, PIL, Adam at 0.001.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from drawing import SEAM, write_welds
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import nn
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from training_runs import Batch, make_trainer, quiet

from weldnet.data.cache import Geometry
from weldnet.data.datamodule import WeldDataModule
from weldnet.model.classifier import WeldClassifier
from weldnet.model.network import WeldNet

STEPS = 20


class Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].item())


def files_in_order(data: WeldDataModule) -> Iterator[list[tuple[str, int]]]:
    """The batches of path and class number, epoch after epoch, as weldnet draws them."""
    samples = data.samples("train")
    for epoch in range(STEPS):
        sampler: Any = data.train_dataloader().sampler
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, len(order), data.batch_size):
            rows = order[start : start + data.batch_size]
            yield [(samples["path"][row], data.classes.index(samples["label"][row])) for row in rows]


def plain_losses(model: nn.Module, data: WeldDataModule) -> list[float]:
    size = (data.geometry.height, data.geometry.width)
    transform = Compose([Resize(size), ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
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


def weldnet_losses(model: torchvision.models.ResNet, backbone: str, data: WeldDataModule, folder: Path) -> list[float]:
    network = WeldNet(backbone, len(data.classes), channels_last=False)
    network.trunk.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")})
    network.head.load_state_dict(model.fc.state_dict())
    note = Losses()
    trainer = make_trainer(folder, max_steps=STEPS, max_epochs=-1, precision="32-true", callbacks=[note])
    trainer.fit(WeldClassifier(network, data.classes, torch.optim.Adam, lr=0.001), datamodule=data)
    return note.losses


@quiet
@pytest.mark.parametrize(
    ("backbone", "size", "batch_size"),
    [
        ("resnet18", (64, 16), 8),
        # About 90 s on two cores.
        pytest.param("resnet50", (300, 30), 32, marks=pytest.mark.slow),
    ],
)
def test_first_losses_agree(tmp_path: Path, backbone: str, size: tuple[int, int], batch_size: int) -> None:
    root = write_welds(tmp_path / "welds", ("crack", "no_defect", "pore"), shots=batch_size // 2, size=(160, 40))
    data = WeldDataModule(
        "folder", root=root, group_pattern=SEAM, geometry=Geometry(*size), batch_size=batch_size, seed=3
    )
    data.setup()
    torch.manual_seed(1)
    model = torchvision.models.get_model(backbone, weights=None, num_classes=len(data.classes))
    assert isinstance(model, torchvision.models.ResNet)
    ours = weldnet_losses(model, backbone, data, tmp_path)
    expected = plain_losses(model, data)
    assert len(ours) == STEPS
    assert min(expected) < 0.8 * expected[0], "the recipe learns"
    assert ours == pytest.approx(expected, abs=1e-3)
