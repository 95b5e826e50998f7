"""Exports agree with their checkpoint, or are not kept."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from exports import load_small, reuse
from PIL import Image
from torch import nn

from weldnet.data.datamodule import WeldDataModule
from weldnet.errors import InputError
from weldnet.evaluation.verdicts import OperatingPoint, give_verdicts
from weldnet.export import exporter as exporting
from weldnet.export.exporter import build_folder, choose_layout, export_model, require_judge
from weldnet.export.graph import CODES
from weldnet.export.handover import describe_network
from weldnet.export.parity import check, measure, score_split
from weldnet.export.quantization import choose_point, count_convolutions, draw_evenly
from weldnet.export.settings import Bounds, InputSettings, Int8Settings
from weldnet.inference import openvino_format
from weldnet.inference.checkpoint import Checkpoint
from weldnet.inference.engines import Scores
from weldnet.inference.exported import FORMATS, load_export, read_export_card
from weldnet.inference.predictor import Predictor
from weldnet.inference.torch_engine import TorchEngine
from weldnet.model.backbone import StridedConv2d
from weldnet.model.network import WeldNet

Setting = tuple[Checkpoint, WeldDataModule]
Exported = Callable[[str], Path]


@pytest.fixture(scope="module")
def setting(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """The checkpoint that `exported` exports, and its data."""
    return load_small(small, tmp_path_factory.mktemp("export"))


@pytest.mark.slow
@pytest.mark.parametrize("num_images", [1, 7, 33])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_checkpoint_s_words(setting: Setting, exported: Exported, name: str, num_images: int) -> None:
    checkpoint, data = setting
    engine = load_export(exported(name), device="auto", precision="float32")
    reference = TorchEngine(checkpoint, "cpu")
    welds = data.dataset("val")[range(num_images)][0].numpy()
    noise = np.random.default_rng(0).integers(0, 256, welds.shape, np.uint8)
    for images in (welds, noise):
        ours, theirs = engine.score(images), reference.score(images)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
        np.testing.assert_allclose(ours.distances, theirs.distances, rtol=1e-5)
        point = reference.facts.point
        sound, _, expected = give_verdicts(*theirs, data.classes, point)
        # Each limit is the score of one image, which may round to either side of it.
        gaps = [theirs.distances - 1, *(sound - limit for limit in (point.accept_above, point.reject_below) if limit)]
        at_limit = np.min(np.abs(gaps), axis=0) < 1e-5
        assert at_limit.sum() <= len(gaps)
        verdicts = give_verdicts(*ours, data.classes, point)[2]
        assert verdicts[~at_limit].tolist() == expected[~at_limit].tolist()
    own = {"digest", "runtime", "versions", "git_commit"}
    assert engine.facts.model_dump(exclude=own) == reference.facts.model_dump(exclude=own)


@pytest.mark.slow
def test_the_folder(setting: Setting, exported: Exported) -> None:
    checkpoint, data = setting
    for name in FORMATS:
        folder = exported(name)
        files = {file.name: file for file in folder.iterdir()}
        assert set(files) == {*FORMATS[name].files, "README.md", "check", "check.py", "model.json", "parity.json"}
        # Nothing identifies the machine that made it.
        for content in (file.read_bytes() for file in files.values() if file.is_file()):
            assert b"site-packages" not in content
            assert str(folder.parent).encode() not in content
        record, _ = read_export_card(folder)
        assert (record.format, record.checkpoint.digest) == (name, checkpoint.digest)
        assert record.split_digest == data.split_digest
        parity = json.loads(files["parity.json"].read_text())
        assert parity["num_images"] == len(data.samples("val"))
        assert ("files" in parity, record.input == "photograph") == (name == "onnx",) * 2
        runtime = FORMATS[name].runtime.format(version=version(FORMATS[name].packages[-1]))
        sentences = (*record.input_rule, *record.rule, runtime)
        assert all(sentence in files["README.md"].read_text() for sentence in sentences)
        stored = json.loads(files["model.json"].read_text())
        assert (stored["applied_temperature"], "temperature" in stored) == (record.temperature, False)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["cache", "complete", "export"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_the_check_runs_alone(exported: Exported, tmp_path: Path, name: str) -> None:
    """It imports nothing of weldnet, and notices a network or an image that is not the same."""
    folder = shutil.copytree(exported(name), tmp_path / "copy")
    # Without torch and weldnet, as on the line's PC.
    code = (
        "import runpy, sys; sys.modules.update(torch=None, weldnet=None); runpy.run_path(sys.argv[1], None, '__main__')"
    )
    for wrong in (False, True):
        if wrong:
            image = Image.open(folder / "check" / "1.png")
            image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).point(lambda level: 255 - level).save(image.filename)
        done = subprocess.run([sys.executable, "-c", code, folder / "check.py"], capture_output=True, text=True)
        assert done.returncode == wrong, done.stderr
        assert ("do not use this export" in done.stderr) == wrong
    check = (folder / "check.py").read_text()
    assert len(check.splitlines()) < 45
    # Nothing of the runtimes of other formats.
    others = {each.packages[-1] for each in FORMATS.values()} - {FORMATS[name].packages[-1]}
    assert not any(other in check for other in others)


@pytest.mark.slow
def test_the_network_describes_itself(setting: Setting, exported: Exported) -> None:
    checkpoint, _ = setting
    network = onnx.load(exported("onnx") / "model.onnx")
    onnx.checker.check_model(network)
    assert (network.ir_version, [each.version for each in network.opset_import if not each.domain]) == (8, [18])
    facts = {each.key: each.value for each in network.metadata_props}
    assert json.loads(facts["classes"]) == checkpoint.card.classes
    assert OperatingPoint.from_dict(json.loads(facts["operating_point"])) == require_judge(checkpoint).point
    assert json.loads(facts["geometry"]) == asdict(checkpoint.geometry)
    assert facts["checkpoint_digest"] == checkpoint.digest
    assert "licence" in facts
    assert (network.model_version, network.producer_name) == (3, "weldnet")
    assert all(value.doc_string for value in (*network.graph.input, *network.graph.output))
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in network.graph.input]
    assert shapes == [["batch", "height", "width", 3]]


@pytest.mark.slow
def test_a_class_called_location_can_be_exported(exported: Exported, tmp_path: Path) -> None:
    """The reader refuses a network that has this word."""
    card, _ = read_export_card(exported("onnx"))
    network = onnx_ir.load(exported("onnx") / "model.onnx")
    describe_network(network, card.model_copy(update={"classes": ["location", "pore"]}))
    onnx_ir.save(network, tmp_path / "model.onnx")
    assert b"location" not in (tmp_path / "model.onnx").read_bytes()
    assert json.loads(network.metadata_props["classes"]) == ["location", "pore"]


@pytest.mark.slow
def test_photographs_of_any_size_get_the_checkpoint_s_verdict(setting: Setting, exported: Exported) -> None:
    checkpoint, data = setting
    session = onnxruntime.InferenceSession(exported("onnx") / "model.onnx", providers=["CPUExecutionProvider"])
    paths = data.samples("val")["path"].to_list()
    with Predictor(TorchEngine(checkpoint, "cpu")) as predictor:
        wanted = list(predictor.predict_files(paths))
    assert len({each.verdict for each in wanted}) > 1
    point, num_clear = require_judge(checkpoint).point, 0
    for path, prediction in zip(paths, wanted, strict=True):
        images = np.asarray(Image.open(path).convert("RGB"))[None]
        names = ["class_index", "score", "distance", "verdict"]
        index, score, distance, verdict = (each[0] for each in session.run(names, {"images": images}))
        assert checkpoint.card.classes[index] == prediction.predicted
        assert score == pytest.approx(prediction.probabilities["good"], abs=0.01)
        limits = [limit for limit in (point.accept_above, point.reject_below) if limit is not None]
        # A threshold is the score of some validation image.
        if min(abs(distance - 1), *(abs(score - limit) for limit in limits)) > 0.01:
            num_clear += 1
            assert list(CODES)[verdict] == prediction.verdict
    assert num_clear > len(paths) / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("takes", "axes", "num_outputs"),
    [
        (InputSettings("fixed"), ["batch", 3, 32, 16], 2),
        (InputSettings(layout="nchw"), ["batch", 3, "height", "width"], 5),
    ],
)
def test_other_inputs(
    setting: Setting, exported: Exported, tmp_path: Path, takes: InputSettings, axes: list[str | int], num_outputs: int
) -> None:
    checkpoint, data = setting
    figures = export_model(checkpoint, data, "onnx", tmp_path / "other", Bounds(), takes=takes)
    assert ("files" in figures) == (num_outputs == 5)
    network = onnx.load(tmp_path / "other" / "model.onnx")
    assert [d.dim_param or d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim] == axes
    assert len(network.graph.output) == num_outputs
    images = data.dataset("val").pictures(range(7))
    scores = [
        load_export(each, device="cpu", precision="float32").score(images)
        for each in (exported("onnx"), tmp_path / "other")
    ]
    np.testing.assert_allclose(scores[0].probabilities, scores[1].probabilities, atol=1e-6)
    subprocess.run([sys.executable, tmp_path / "other" / "check.py"], check=True)


def test_openvino_takes_no_photographs() -> None:
    assert choose_layout(InputSettings(layout="nhwc"), FORMATS["openvino"]) is None


def mirror_input(graph: onnx.GraphProto) -> None:
    """Mirrors the photograph."""
    for node in graph.node:
        node.input[:] = ["mirrored" if name == "images" else name for name in node.input]
    # From the last column to before the first, along the width, by steps of -1.
    slices = [onnx.numpy_helper.from_array(np.array([each]), f"slice{each}") for each in (-1, -(2**31), 2)]
    graph.initializer.extend(slices)
    names = [f"slice{each}" for each in (-1, -(2**31), 2, -1)]
    graph.node.insert(0, onnx.helper.make_node("Slice", ["images", *names], ["mirrored"]))


def change_output(graph: onnx.GraphProto, name: str, operation: str, value: float) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["right" if each == name else each for each in names]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), "value"))
    graph.node.append(onnx.helper.make_node(operation, ["right", "value"], [name]))


TOO_FAR = r"export\.max_probability_error=0\.001 is allowed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (mirror_input, "is refused"),
        # A wrong temperature, a wrong distance.
        (partial(change_output, name="probabilities", operation="Pow", value=1.02), TOO_FAR),
        (partial(change_output, name="distance", operation="Mul", value=1.01), TOO_FAR),
    ],
)
def test_a_wrong_network_is_not_kept(
    setting: Setting, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, message: str
) -> None:
    reuse(monkeypatch, exported("onnx"), spoil)
    with pytest.raises(InputError, match=message):
        export_model(*setting, "onnx", tmp_path / "new" / "out", Bounds())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_int8_has_thresholds_of_its_own(setting: Setting, exported: Exported) -> None:
    checkpoint, data = setting
    judge = require_judge(checkpoint)
    int8 = load_export(exported("openvino_int8"), device="cpu", precision="float32")
    engines = (TorchEngine(checkpoint, "cpu"), int8)
    before, after = (score_split(engine, data, "val") for engine in engines)
    point = engines[1].facts.point
    assert replace(point, accept_above=0, reject_below=0) == replace(judge.point, accept_above=0, reject_below=0)
    assert point == choose_point(before, after, data, judge)
    assert choose_point(before, before, data, judge).accept_above == pytest.approx(judge.point.accept_above, abs=1e-5)
    # Where defects score high, more is asked for.
    swapped = Scores(after.probabilities[:, ::-1], after.distances)
    assert (choose_point(before, swapped, data, judge).accept_above or 1) > 0.5
    with pytest.raises(InputError, match=r"data\.root=DIR"):
        choose_point(Scores(before.probabilities[::-1], before.distances), after, data, judge)
    assert "int8" in engines[1].facts.runtime
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=0.1)
    sizes = [(exported(name) / "model.bin").stat().st_size for name in ("openvino_int8", "openvino")]
    assert sizes[0] < sizes[1] / 3


@pytest.mark.slow
def test_bf16_is_near(setting: Setting, exported: Exported) -> None:
    """At 32 x 16 the last strided convolution gives one column, which oneDNN's own bfloat16 kernels leave unwritten."""
    _, data = setting
    exact, half = (
        score_split(load_export(exported("openvino"), device="cpu", precision=precision), data, "test")
        for precision in ("float32", "bf16")
    )
    np.testing.assert_allclose(half.probabilities, exact.probabilities, atol=0.05)
    np.testing.assert_allclose(half.distances, exact.distances, rtol=0.1)


@pytest.mark.slow
def test_nothing_is_left_of_an_export_that_ends_early(
    setting: Setting, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse(monkeypatch, exported("onnx"))
    reuse(monkeypatch, exported("openvino_int8"))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "score_split", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_model(*setting, "onnx", tmp_path / "out", Bounds())
    with monkeypatch.context() as patch:
        # Worse by all that there is.
        patch.setattr(exporting, "measure", lambda *_: WORSE)
        with pytest.raises(InputError, match=r"export\.max_accuracy_drop=0\.01 is allowed"):
            export_model(*setting, "openvino_int8", tmp_path / "out", Bounds(), Int8Settings(8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", [None, "model.xml"])
def test_a_full_disk(tmp_path: Path, file: str | None) -> None:
    with (
        pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'a'}'$"),
        build_folder(tmp_path / "a") as b,
    ):
        raise OSError(28, "No space left on device", file and str(b / file))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name(tmp_path: Path) -> None:
    with build_folder(tmp_path / ("a" * 255)) as built:
        assert built.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]


def test_a_network_that_openvino_cannot_convert(tmp_path: Path) -> None:
    """It pools two pixels where there is one, as timm's smallest ResNet does at 32 x 16."""

    class Pool(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pooled = nn.functional.avg_pool2d(images, 2, ceil_mode=True)
            return pooled, pooled.sum()

    program = torch.export.export(Pool(), (torch.zeros(1, 3, 2, 1),))
    with pytest.raises(InputError, match=r"cannot convert this network .*: AveragePool-18, .*; type format=onnx"):
        FORMATS["openvino"].write(program, tmp_path, None)


def test_openvino_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def convert_model(_: Path) -> None: ...

        @staticmethod
        def save_model(*_: Any, **__: Any) -> None:
            raise RuntimeError("\n")

    monkeypatch.setattr(openvino_format, "import_extra", lambda _: Full)
    monkeypatch.setattr(openvino_format, "write_onnx", lambda _, folder: folder / "model.onnx")
    with pytest.raises(OSError, match="openvino cannot write: RuntimeError"):
        FORMATS["openvino"].write(torch.export.export(torch.nn.Identity(), (torch.zeros(1),)), tmp_path, None)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_bounds(value: float) -> None:
    with pytest.raises(InputError, match=r"export\.max_escape_increase=.*: allowed are numbers from 0 to 1"):
        Bounds(max_escape_increase=value)


WORTH = {"balanced_accuracy": 0.9, "escapes": {"k": 2, "n": 100}}
WORSE: dict[str, Any] = {
    "num_images": 200,
    "before": WORTH,
    "after": WORTH | {"balanced_accuracy": 0.0},
    "verdict_changes": 10,
    "unexplained_verdict_changes": 10,
    "unlike_changes": 10,
    "largest_probability_error": 0.1,
    "largest_distance_error": 0.1,
    "bounds": {"max_accuracy_drop": 0.01, "max_escape_increase": 0.01, "max_verdict_changes": 0.05},
}
POINT = OperatingPoint(0.8, 0.2, ("good",), 0.05, 0.05, 0.95, 100, 100)


@pytest.mark.parametrize(
    ("sound", "distance", "other_sound", "other_distance", "unexplained", "kept"),
    [
        (0.9, 0.5, 0.9005, 0.5, 0, True),
        (0.9, 0.5, 0.902, 0.5, 0, False),
        (0.7997, 0.5, 0.8003, 0.5, 0, True),  # accepted now, by less than the bound
        (0.1997, 0.5, 0.2003, 0.5, 0, True),
        (0.9, 0.9997, 0.9, 1.0003, 0, True),
        (0.9, 0.5, 0.9, 0.502, 0, False),
        (0.9, 50.0, 0.9, 50.04, 0, True),  # relative above 1
        (0.9, 0.5, 0.9, 1.5, 1, False),
        (0.7, 0.5, 0.9, 0.5, 1, False),
        (0.9, 0.5, 0.9, np.nan, 0, False),
    ],
)
def test_the_gate(
    sound: float, distance: float, other_sound: float, other_distance: float, unexplained: int, kept: bool
) -> None:
    before, after = (
        Scores(np.array([[p, 1 - p], [0.5, 0.5]]), np.array([d, 0.1]))
        for p, d in ((sound, distance), (other_sound, other_distance))
    )
    labels, bounds = np.array([0, 1]), Bounds().of(is_int8=False)
    figures = measure(before, after, labels, ("good", "pore"), (POINT, POINT), bounds)
    assert figures["unexplained_verdict_changes"] == unexplained
    assert figures["largest_probability_error"] == pytest.approx(abs(sound - other_sound))
    if kept:
        check(figures)
    else:
        with pytest.raises(InputError, match="is refused"):
            check(figures)


def test_int8_counts_what_referred_images_hide() -> None:
    """All are referred by both, yet a class and an answer to whether an image is unlike training differ."""
    point = OperatingPoint(None, None, ("good",), 0.05, 0.05, 0.95, 0, 0)
    before = Scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.5, 0.5]))
    after = Scores(np.array([[0.4, 0.6], [0.2, 0.8]]), np.array([0.5, 1.5]))
    bounds = Bounds().of(is_int8=True)
    figures = measure(before, after, np.array([0, 1]), ("good", "pore"), (point, point), bounds)
    assert [figures[f"{name}_changes"] for name in ("verdict", "class", "unlike")] == [0, 1, 1]
    assert (figures["after"]["refer"]["k"], figures["after"]["refer"]["n"]) == (2, 2)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({}, None),
        ({"after": {"balanced_accuracy": 0.88}}, "max_accuracy_drop"),
        ({"after": {"balanced_accuracy": float("nan")}}, "max_accuracy_drop"),
        ({"after": {"escapes": {"k": 4, "n": 100}}}, "max_escape_increase"),
        ({"verdict_changes": 11}, "max_verdict_changes"),
        ({"unlike_changes": 11}, "max_verdict_changes"),
    ],
)
def test_the_gate_of_int8(changed: dict[str, Any], key: str | None) -> None:
    figures = WORSE | {"after": WORTH} | changed | {"after": WORTH | changed.get("after", {})}
    if key is None:
        check(figures)
    else:
        with pytest.raises(InputError, match=f"export.{key}=") as refusal:
            check(figures)
        assert str(refusal.value).count("is allowed") == 1


@pytest.mark.parametrize(
    ("counts", "num_images", "expected"),
    [((50, 50), 10, (5, 5)), ((50, 2), 10, (8, 2)), ((3, 4), 10, (3, 4)), ((50, 0, 50), 4, (2, 0, 2))],
)
def test_classes_are_drawn_evenly(counts: tuple[int, ...], num_images: int, expected: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = draw_evenly(labels, num_images)
    assert len(set(rows.tolist())) == len(rows)
    assert np.bincount(labels[rows], minlength=len(counts)).tolist() == list(expected)
    assert rows.tolist() == draw_evenly(labels, num_images).tolist()


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_the_wider_convolution_gives_the_same(width: int) -> None:
    torch.manual_seed(0)
    wide = StridedConv2d(4, 6, 3, stride=2, padding=1, bias=False)
    wide.is_exported = True
    images = torch.randn(2, 4, 5, width)
    plain = nn.functional.conv2d(images, wide.weight, stride=2, padding=1)
    torch.testing.assert_close(wide(images), plain)


@pytest.mark.parametrize(("through", "number"), [("stem", 1), ("layer1", 5), ("layer2", 10), ("layer3", 15)])
def test_convolutions_that_stay_float(through: str, number: int) -> None:
    assert count_convolutions(WeldNet("resnet18", 2), through) == number
