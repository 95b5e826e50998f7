"""Training where the images are on a device: on a GPU, and on a CPU that minds what a GPU minds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import call
from drawing import write_welds
from torch import Tensor
from trained import CLASSES, TINY

from weldnet.data.storage import HeldImages, Rows

ONE_EPOCH = [
    *(setting for setting in TINY if not setting.startswith(("trainer", "callbacks"))),
    "data.augmentation=weld",
    "data.mixup=0.2",
    "trainer.max_epochs=1",
    "output_dir=run",
]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def here(here: Path) -> Path:
    write_welds(here / "welds", CLASSES, seams=range(8))
    return here


class OnDevice(Tensor):
    """A tensor that numpy may not read before `.cpu()`, as one on a GPU; what is computed from it is a plain one."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert device type tensor to numpy")

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError("can't convert device type tensor to numpy")

    def cpu(self, *arguments: Any, **settings: Any) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_nothing_takes_pictures_on_a_device_for_arrays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ImagesOnDevice(HeldImages):
        def to(self, device: torch.device) -> HeldImages:
            return self

        def read(self, rows: Rows | Tensor) -> Tensor:
            return super().read(rows).as_subclass(OnDevice)

    monkeypatch.setattr(HeldImages, "to", lambda self, device: ImagesOnDevice(self.images))
    call("train", *ONE_EPOCH, "data.cache=device", "trainer=cpu", "trainer.precision=32-true")
    assert json.loads((here / "run" / "report.json").read_text())["split"] == "test"


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("cache", ["disk", "memory", "device"])
def test_on_a_gpu_the_terminal_is_as_clean_as_on_a_cpu(here: Path, cache: str) -> None:
    script = str(Path(sys.executable).with_name("weldnet-train"))
    done = subprocess.run(
        [script, *ONE_EPOCH, f"data.cache={cache}", "trainer=gpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (here / "run" / "report.html").is_file()
