"""Each kind of backbone through the commands: an epoch, resumed, explained, exported."""

import json
from pathlib import Path

import pytest
import torch
from calling import call
from drawing import SEAM, write_welds

from weldnet.inference.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

DATA = ["data=folder", "data.root=welds", f"data.group_pattern={SEAM}", "data.batch_size=8"]
TRAINER = ["trainer=cpu", "trainer.max_epochs=1", "optimizer=sgd", "callbacks.dashboard=null"]


@pytest.fixture
def welds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with photographs in `welds`."""
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "welds", ("good", "pore"), seams=range(12), shots=1)
    return tmp_path


def size(height: int, width: int) -> list[str]:
    return [f"data.image_size.height={height}", f"data.image_size.width={width}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "height", "width", "layer", "stage", "mean"),
    [
        ("resnet50", 96, 32, "layer2", "layer1", 0.485),
        ("test_convnext", 96, 64, "stage3", "stage1", 0.5),
        ("test_vit", 96, 96, "stage5", "stage2", 0.5),
    ],
)
def test_a_backbone_from_training_to_export(
    welds: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    height: int,
    width: int,
    layer: str,
    stage: str,
    mean: float,
) -> None:
    group = "model=resnet50" if name == "resnet50" else "model=timm"
    frozen = f"model.freeze_through={stage}"
    model = [group, f"model.backbone={name}", "model.weights=none", frozen, "model.layer_decay=0.5"]
    call("train", *DATA, *TRAINER, *size(height, width), *model, "output_dir=run")
    first = load_checkpoint(welds / "run" / "checkpoints" / "last.ckpt")
    assert (first.card.backbone, first.card.mean[0]) == (name, mean)
    call("train", "ckpt_path=run", "trainer.max_epochs=2")
    last = load_checkpoint(welds / "run" / "checkpoints" / "last.ckpt")
    assert (first.num_epochs, last.num_epochs) == (1, 2)
    network = last.network()
    network.freeze(stage)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    for key, parameters in network.stages():
        changed = {bool((first.weights[names[id(each)]] != last.weights[names[id(each)]]).any()) for each in parameters}
        assert (True in changed) == (key not in network.frozen), key
    call("explain", "ckpt_path=run", "source=welds/pore/seam0_0.jpg", "output_dir=explained")
    facts = json.loads((welds / "explained" / "explained_by.json").read_text())
    assert (facts["method"], facts["layer"]) == ("hires_cam", layer)
    # tests/export frames photographs in the graph.
    call("export", "ckpt_path=run", "format=onnx", "export.input=fixed", "output_dir=exported")
    parity = json.loads((welds / "exported" / "parity.json").read_text())
    assert 0 < parity["largest_probability_error"] < 1e-3
    assert parity["unexplained_verdict_changes"] == 0
    if name != "resnet50":
        with pytest.raises(SystemExit) as stop:
            call("export", "ckpt_path=run", "format=openvino_int8", "output_dir=int8")
        assert stop.value.code == 2
        assert f"is for ResNets, not for {name}; type format=openvino" in capsys.readouterr().err
        assert not (welds / "int8").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["model.backbone=test_convnext"],
            "does not take images of 300 x 30: the smallest are 32 x 32; type data.image_size.height=300 "
            "data.image_size.width=32",
        ),
        (
            ["model.backbone=test_vit"],
            "does not take images of 300 x 30: the smallest are 16 x 16, and height and width are multiples of 16; "
            "type data.image_size.height=304 data.image_size.width=32",
        ),
        ([], "model.backbone is not given"),
        (["model.backbone=test_vti"], "did you mean 'test_vit"),
        (["model.backbone=hf-hub:timm/test_vit.r160_in1k"], "allowed are resnet18"),
        (["model.backbone=resnet18.a9_in1k"], "after the dot are allowed a1_in1k"),
        (["model.backbone=poolformer_s12"], "does not divide this model into stages"),
        (["model.backbone=coat_tiny", *size(64, 64)], "no heatmap can be drawn"),
        (["model.backbone=test_vit", *size(32, 32), "model.freeze_through=layer1"], "allowed are stem, stage1, stage2"),
        (["model.backbone=test_vit", *size(32, 32), "model.zero_init_residual=true"], "works with resnet18"),
        (["model.backbone=test_vit", *size(32, 32)], "https://huggingface.co/timm/test_vit.r160_in1k"),
        (["model.backbone=test_vit", *size(32, 32), "model.weights=IN1K"], "allowed are r160_in1k, default, none"),
        (["model.backbone=test_vit", *size(32, 32), "model.weights=other.pt"], "does not fit model.backbone=test_vit"),
    ],
)
def test_mistakes(welds: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    torch.save({"patch_embed.proj.weight": torch.zeros(64, 3, 16, 16)}, "other.pt")
    with pytest.raises(SystemExit) as stop:
        call("train", *DATA, *TRAINER, "model=timm", *arguments, "output_dir=run")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in welds.iterdir()) == ["other.pt", "welds"]
