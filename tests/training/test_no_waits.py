"""A training step never waits for the device."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from calling import call
from drawing import write_welds
from trained import CLASSES, SMALL
from waiting import CountReads, ForbidWaits

pytestmark = pytest.mark.usefixtures("undrawn")

TWO_EPOCHS = [
    *(setting for setting in SMALL if not setting.startswith(("trainer", "callbacks"))),
    "callbacks=averaging",
    "data.batch_size=6",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1000",
    "test=false",
    "output_dir=run",
]
"""The default recipe, with pictures, averaging, and a last batch that is smaller."""

STRENGTHS = ["+data.augmentation._target_=weldnet.data.augmentation.Strengths", "+data.augmentation.convolution=0.5"]


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    write_welds(here / "welds", CLASSES, seams=range(20))
    return here


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize("changes", [[], ["data.mixup=0.2"], ["data.mixup=0.2", "data.cutmix=1.0"], STRENGTHS])
def test_no_operation_of_a_step_needs_its_result_on_the_cpu(here: Path, changes: list[str]) -> None:
    call(
        "train",
        *TWO_EPOCHS,
        *changes,
        *("model=timm", "model.backbone=test_resnet", "trainer=cpu"),
        "trainer.precision=32-true",
        "+callbacks.reads._target_=waiting.CountReads",
    )
    assert CountReads.num_steps["train"] >= 15
    assert CountReads.num_steps["validation"] >= 2
    assert dict(CountReads.found) == {}


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("cache", ["disk", "device"])
@pytest.mark.parametrize("graphs", ["on", "off"])
def test_no_step_waits_for_a_gpu(here: Path, restored: None, cache: str, graphs: str) -> None:
    call(
        "train",
        *TWO_EPOCHS,
        "data.mixup=0.2",
        f"data.cache={cache}",
        f"model.cuda_graphs={graphs}",
        "trainer=gpu",
        "+callbacks.waits._target_=waiting.ForbidWaits",
    )
    assert ForbidWaits.num_steps >= 10
