"""A run that an older weldnet left: tested, used, resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import call, exit_code
from drawing import write_welds
from trained import CLASSES

from weldnet.inference.checkpoint import load_checkpoint
from weldnet.inference.prediction_files import read_rows
from weldnet.model.classifier import WeldClassifier

pytestmark = pytest.mark.usefixtures("undrawn")

FORMAT_3 = Path(__file__).parents[1] / "formats" / "format_3.pt"
"""The checkpoints of `trained.train_small` without a dashboard, as commit 1e57a44 wrote them; of the network's weights
and the optimizer's states only names, shapes and types."""


def restore(value: Any, folder: str, generator: torch.Generator) -> Any:
    """The same nest below a different folder, with small positive tensors in the place of shapes."""
    if isinstance(value, str):
        return value.replace("/elsewhere", folder)
    if isinstance(value, list):
        return [restore(each, folder, generator) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"shape", "dtype"}:
        drawn = torch.rand(value["shape"], generator=generator) * 0.1 + 0.01
        return drawn.to(getattr(torch, value["dtype"]))
    return {restore(key, folder, generator): restore(each, folder, generator) for key, each in value.items()}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`run`, and the `welds` that trained it, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", CLASSES, seams=range(30), shots=4)
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name, packed in torch.load(FORMAT_3, weights_only=True).items():
        content = restore(packed, str(tmp_path), generator)
        torch.save(content, checkpoints / f"{name}.ckpt")
        (tmp_path / "run" / "config.yaml").write_text(content["weldnet"]["config"], encoding="utf-8")
    return tmp_path / "run"


def test_an_old_checkpoint_predicts_and_is_tested(run: Path) -> None:
    assert load_checkpoint(run / "checkpoints" / "best.ckpt").geometry.normalize == "imagenet"
    call("predict", "ckpt_path=run", "source=welds/pore", "output_dir=predicted")
    rows = list(read_rows(Path("predicted/predictions.jsonl")))
    assert len(rows) == 120
    assert {row["verdict"] for row in rows} <= {"accept", "reject", "refer"}
    call("test", "ckpt_path=run", "output_dir=tested")
    metrics = json.loads(Path("tested/metrics.json").read_text(encoding="utf-8"))
    assert metrics["num_images"] == 32
    assert metrics["leaks"] == []


def test_ctrl_c_ends_a_test(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lightning alone would exit by code 1, which means that a file could not be read."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WeldClassifier, "predict_step", interrupt)
    assert exit_code("test", "ckpt_path=run", "output_dir=tested") == 130
    assert capsys.readouterr().err.endswith("weldnet-test: interrupted\n")
    assert not Path("tested").exists()


@pytest.mark.parametrize("name", ["best", "last"])
def test_lightning_loads_an_old_checkpoint(run: Path, name: str) -> None:
    file = run / "checkpoints" / f"{name}.ckpt"
    module, network = WeldClassifier.load_from_checkpoint(file), load_checkpoint(file).network()
    assert (module.classes, module.network.backbone.name) == (list(CLASSES), "resnet18")
    state = module.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
def test_an_old_run_is_resumed(run: Path) -> None:
    call("train", "ckpt_path=run", "trainer.max_epochs=4")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 3
    # Eleven steps an epoch, on top of what `restore` drew.
    steps = [state["step"].item() for state in last["optimizer_states"][0]["state"].values()]
    assert all(11 < step < 11.2 for step in steps)
    assert load_checkpoint(run / "checkpoints" / "best.ckpt").card.classes == list(CLASSES)
