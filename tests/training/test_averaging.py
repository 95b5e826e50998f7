"""The moving average is Lightning's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from training_runs import load_batches, make_trainer, quiet

from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings
from weldnet.training.averaging import MovingAverage

CLASSES = ["crack", "pore"]


def train(folder: Path, average: EMAWeightAveraging) -> dict[str, Tensor]:
    """The weights after two epochs, when a trainer puts the average into the model."""
    torch.manual_seed(0)
    model = WeldClassifier(CLASSES, ModelSettings("resnet18", "none"))
    batches = [(torch.randint(0, 256, (4, 3, 32, 16), dtype=torch.uint8), torch.tensor([0, 1, 1, 0])) for _ in range(4)]
    trainer = make_trainer(folder, max_epochs=2, callbacks=[average])
    trainer.fit(model, load_batches(*batches), load_batches(batches[0]))
    return model.network.state_dict()


@quiet
@pytest.mark.parametrize(
    "settings",
    [
        {"decay": 0.7},
        {"decay": 0.7, "update_every_n_steps": 2, "update_starting_at_step": 3},
        {"decay": 0.7, "update_every_n_steps": 0, "update_starting_at_epoch": 0},
    ],
)
def test_the_average_is_lightnings(tmp_path: Path, settings: dict[str, Any]) -> None:
    ours, theirs = train(tmp_path, MovingAverage(**settings)), train(tmp_path, EMAWeightAveraging(**settings))
    for name, value in theirs.items():
        if value.is_floating_point():
            torch.testing.assert_close(ours[name], value, msg=name)
    counts = [value for name, value in ours.items() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {8}, "all steps have been counted"
