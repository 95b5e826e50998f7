"""A flipped byte in a checkpoint is found by every command that loads one, and by Lightning while resuming."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from calling import refuse
from drawing import write_welds
from untrained import save_untrained

from weldnet.errors import InputError
from weldnet.inference.checkpoint import load_checkpoint
from weldnet.model.network import make_backbone
from weldnet.training.checkpoint_io import CheckpointFiles

SMALL = ["data=folder", "data.root=welds", "data.groups=per_image"]
COMMANDS = {
    "test": ["ckpt_path=a.ckpt", *SMALL, "data.image_size.height=64", "data.image_size.width=32"],
    "predict": ["ckpt_path=a.ckpt", "source=welds"],
    "explain": ["ckpt_path=a.ckpt", "source=welds"],
    "export": ["ckpt_path=a.ckpt", "format=onnx"],
    "serve": ["ckpt_path=a.ckpt", "port=0"],
    "train": ["ckpt_path=a.ckpt"],
}


@pytest.fixture
def flip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Path]:
    """Flips a bit of a weight, at a share of the file."""
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", seams=range(2), shots=1)
    file = save_untrained(tmp_path / "a.ckpt", backbone="test_resnet")
    whole = file.read_bytes()

    def change(share: float) -> Path:
        at = int(len(whole) * share)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        return file

    return change


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(flip: Callable[[float], Path], capsys: pytest.CaptureFixture[str], command: str) -> None:
    file = flip(0.5)
    # Without the checksums it loads like any other.
    torch.load(file, weights_only=True)
    message = refuse(capsys, command, *COMMANDS[command])
    assert f"{file} is not loaded" in message
    assert "the checksum of archive/data/" in message or "the checksum of a/data/" in message


@pytest.mark.slow
def test_anywhere(flip: Callable[[float], Path]) -> None:
    flip(0)
    whole = load_checkpoint(save_untrained(Path("whole.ckpt"), backbone="test_resnet"))
    for number in range(40):
        file = flip(number / 40)
        try:
            loaded = load_checkpoint(file)
        except InputError:
            continue
        assert all(torch.equal(value, whole.weights[name]) for name, value in loaded.weights.items()), number
        assert loaded.card.classes == whole.card.classes


def test_lightning_and_weights(flip: Callable[[float], Path]) -> None:
    file = flip(0.6)
    with pytest.raises(InputError, match="is damaged: the checksum of"):
        CheckpointFiles().load_checkpoint(file, weights_only=True)
    with pytest.raises(InputError, match=r"model\.weights=.*: the checksum of"):
        make_backbone("resnet18", weights=str(file))
