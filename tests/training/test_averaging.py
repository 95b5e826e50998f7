"""The moving average is Lightning's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from training_runs import load_batches, make_trainer, quiet

from weldnet.model.classifier import WeldClassifier
from weldnet.model.settings import ModelSettings
from weldnet.training.averaging import MovingAverage

CLASSES = ["crack", "pore"]


class HeadWeights(Callback):
    """Notes the head's weights after every step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        self.weights.append(pl_module.get_parameter("network.head.weight").detach().clone())


def train(folder: Path, average: EMAWeightAveraging, *callbacks: Callback) -> dict[str, Tensor]:
    """The weights after two epochs, when a trainer puts the average into the model."""
    torch.manual_seed(0)
    model = WeldClassifier(CLASSES, ModelSettings("test_resnet", "none"))
    batches = [(torch.randint(0, 256, (4, 3, 32, 16), dtype=torch.uint8), torch.tensor([0, 1, 1, 0])) for _ in range(4)]
    trainer = make_trainer(folder, max_epochs=2, callbacks=[average, *callbacks])
    trainer.fit(model, load_batches(*batches), load_batches(batches[0]))
    return model.network.state_dict()


@quiet
def test_the_average_is_lightnings(tmp_path: Path) -> None:
    ours, theirs = train(tmp_path, MovingAverage(decay=0.7)), train(tmp_path, EMAWeightAveraging(decay=0.7))
    for name, value in theirs.items():
        if value.is_floating_point():
            torch.testing.assert_close(ours[name], value, msg=name)
    counts = [value for name, value in ours.items() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {8}, "all steps have been counted"


@quiet
@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_while_it_warms_up_the_average_forgets_the_first_steps(tmp_path: Path, decay: float) -> None:
    average, noted = MovingAverage(decay, warm_up=True), HeadWeights()
    found = train(tmp_path, average, noted)["head.weight"]
    expected = noted.weights[0]
    for number, weights in enumerate(noted.weights[1:], start=1):
        kept = min(decay, number / (number + 9))
        expected = kept * expected + (1 - kept) * weights
    torch.testing.assert_close(found, expected)
    assert average.num_updates == len(noted.weights) == 8


@quiet
def test_a_checkpoint_holds_the_average_and_how_often_it_was_updated(tmp_path: Path) -> None:
    average, noted = MovingAverage(decay=0.7), HeadWeights()
    found = train(tmp_path, average, noted)["head.weight"]
    checkpoint: dict[str, Any] = {"state_dict": {"network.head.weight": noted.weights[-1]}}
    average.on_save_checkpoint(Trainer(logger=False), LightningModule(), checkpoint)
    assert torch.equal(checkpoint["state_dict"]["network.head.weight"], found)
    assert torch.equal(checkpoint["current_model_state"]["network.head.weight"], noted.weights[-1])
    assert int(checkpoint["averaging_state"]["n_averaged"]) == 8
