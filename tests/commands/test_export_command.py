"""weldnet-export through its real entry point."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import call, refuse
from drawing import SEAM, write_welds
from exports import reuse
from fork_server import ForkServer
from trained import CLASSES, copy_small

from weldnet.commands.export import draw_parity
from weldnet.inference.checkpoint import write_judge
from weldnet.inference.predictor import load_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_small(small, tmp_path_factory.mktemp("trained"))
    shutil.copytree(folder / "run", folder / "uncalibrated")
    write_judge(folder / "uncalibrated" / "checkpoints" / "best.ckpt", None)
    write_welds(folder / "others", CLASSES, seams=range(40, 50))
    return folder


@pytest.fixture
def workplace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, empty, and the cache that training filled."""
    monkeypatch.setenv("WELDNET_CACHE", str(trained / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_export_is_where_it_says_and_runs(
    trained: Path,
    workplace: Path,
    exported: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reuse(monkeypatch, exported("onnx"))
    call("export", f"ckpt_path={trained / 'run'}", "format=onnx")
    (folder,) = (workplace / "runs" / "export").iterdir()
    printed = capsys.readouterr().out
    assert f"ckpt_path=runs/export/{folder.name} source=DIR" in printed
    assert "largest probability error" in printed
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "check", "check.py", "model.json", "model.onnx", "parity.json")
    ]
    assert load_engine(str(folder)).facts.classes == list(CLASSES)
    digest = json.loads((folder / "model.json").read_text())["checkpoint"]["digest"]
    own = ["format=onnx", f"ckpt_path={folder}"]
    assert digest in refuse(capsys, "export", *own)
    assert "nothing is overwritten" in refuse(
        capsys, "export", f"ckpt_path={trained / 'run'}", *own[:1], f"output_dir={folder}"
    )
    photos = ["explain=all", f"source={trained / 'others'}"]
    assert "explain=all needs gradients; give the checkpoint" in refuse(capsys, "predict", own[1], *photos)
    assert [path.name for path in (workplace / "runs" / "export").iterdir()] == [folder.name]


def test_images_that_have_moved_and_a_key_of_int8(
    trained: Path,
    workplace: Path,
    exported: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reuse(monkeypatch, exported("openvino"))
    shutil.copytree(trained / "welds", workplace / "moved")
    bounds = ("export.layout=nchw", "export.max_accuracy_drop=0.02", "export.max_probability_error=0.002")
    call("export", f"ckpt_path={trained / 'run'}", "format=openvino", "data.root=moved", "output_dir=out", *bounds)
    effects = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert effects == [
        "export.max_accuracy_drop has no effect with format=openvino",
        "export.layout has no effect with a finished image, which is always nchw",
    ]
    assert json.loads((workplace / "out" / "parity.json").read_text())["unexplained_verdict_changes"] == 0


def test_sigterm_leaves_nothing(trained: Path, workplace: Path, forks: ForkServer) -> None:
    typed = [f"ckpt_path={trained / 'run'}", "format=onnx", "output_dir=out"]
    with forks.start(workplace, "export", *typed) as process:
        process.wait_until(lambda: list(workplace.glob(".weldnet_*")))
        process.send_signal(signal.SIGTERM)
        assert process.wait().code == 130
    assert list(workplace.iterdir()) == []


def test_the_table_of_int8() -> None:
    referred, half = ({"k": count, "n": 4} for count in (3, 2))
    worth: dict[str, Any] = {"accuracy": 1.0, "balanced_accuracy": 1.0, "escapes": {"k": 0, "n": 2}}
    errors = dict.fromkeys(("largest_probability_error", "mean_probability_error", "largest_distance_error"), 0.1)
    changes = {"verdict_changes": 1, "class_changes": 7, "unlike_changes": 8}
    sides: dict[str, Any] = {"bounds": {}, "before": worth | {"refer": half}, "after": worth | {"refer": referred}}
    rows = list(draw_parity({"num_images": 4, "runtime": "openvino", **errors, **changes, **sides}).columns[1].cells)
    assert rows[-3:] == ["2 -> 3 of 4", "7", "8"]


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("run", ["format=onxx"], "allowed are onnx, openvino, openvino_int8; did you mean 'onnx'?"),
        ("run", [], "format is not given; type one of format=onnx, format=openvino, format=openvino_int8"),
        ("none", ["format=onnx"], "no checkpoint at"),
        ("uncalibrated", ["format=onnx"], "is not calibrated"),
        ("run", ["format=onnx", "export.num_calibration_images=0"], "whole numbers from 1"),
        ("run", ["format=onnx", "export.float_through=layer5"], "allowed are stem, layer1, layer2, layer3"),
        ("run", ["format=onnx", "export.max_accuracy_dorp=0"], "did you mean"),
        ("run", ["format=onnx", "data.image_size.height=64"], "data.image_size is the checkpoint's"),
        (
            "run",
            ["format=onnx", "data.normalize=per_image"],
            "data.normalize is the checkpoint's",
        ),
        ("run", ["format=onnx", "data.root={trained}/others"], "data.root=DIR"),
        (
            "run",
            ["format=onnx", "data=folder", "data.root={trained}/others", f"data.group_pattern={SEAM}"],
            "data.root=DIR",
        ),
        ("run", ["format=onnx", "export.max_probability_error=-1"], "error=-1: allowed are numbers from 0 to 1"),
        ("run", ["format=onnx", "export.max_verdict_changes=nan"], "changes=nan: allowed are numbers from 0 to 1"),
        ("run", ["format=onnx", "export.max_probability_error=0"], "export.max_probability_error=0 is allowed"),
    ],
)
def test_mistakes(
    trained: Path,
    workplace: Path,
    exported: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: str,
    arguments: list[str],
    message: str,
) -> None:
    reuse(monkeypatch, exported("onnx"))
    typed = [argument.format(trained=trained) if "{trained}" in argument else argument for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        call("export", f"ckpt_path={trained / run}", *typed)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(workplace.iterdir()) == []
