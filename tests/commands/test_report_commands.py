"""From training to the report: verdicts, other targets, two checkpoints, names of ISO 6520-1."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call
from drawing import SEAM
from trained import QUIET, copy_small

from weldnet.commands.test import split_paths
from weldnet.errors import InputError
from weldnet.model import resnet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with welds of two classes and two runs on them, a and b."""
    folder = copy_small(small, tmp_path_factory.mktemp("report"))
    (folder / "run").rename(folder / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WELDNET_CACHE", str(folder / "cache"))
        # On the same files: the copy's config names the first ones.
        call("train", *QUIET, f"data.root={small / 'welds'}", "trainer.max_epochs=1", "output_dir=b")
    return folder


def call_test(monkeypatch: pytest.MonkeyPatch, runs: Path, *arguments: str) -> None:
    monkeypatch.chdir(runs)
    call("test", *arguments)


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_training_ends_with_a_report(runs: Path) -> None:
    report = read(runs / "a" / "report.json")
    assert report["split"] == "test"
    assert report["validation"]["num_images"] == len(pl.read_csv(runs / "a/split.csv").filter(split="val"))
    split = pl.read_csv(runs / "a" / "split.csv")
    for row in report["data"]:
        of = split.filter(label=row["label"], split=row["split"])
        assert (row["images"], row["welds"]) == (len(of), of["group"].n_unique())
    assert sum(row["images"] for row in report["data"]) == len(split)
    assert report["good_classes"] == ["good"]
    assert report["provenance"]["checkpoint_digest"] == report["checkpoint_digest"]
    assert report["operating_point"]["num_defects"] + report["operating_point"]["num_sound"] > 0
    assert (runs / "a" / "report.html").stat().st_size > 10_000
    predictions = pl.read_csv(runs / "a" / "predictions.csv")
    counts = report["verdicts"]["photographs"]
    for verdict in ("accept", "reject", "refer"):
        assert counts[verdict]["k"] == len(predictions.filter(verdict=verdict))
    metrics = read(runs / "a" / "metrics.json")
    assert metrics["loss_calibrated"] == pytest.approx(report["loss_calibrated"])


def test_other_targets_need_no_training(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call_test(monkeypatch, runs, "ckpt_path=a", "output_dir=same")
    same = read(runs / "same" / "report.json")
    assert same["operating_point"] == read(runs / "a" / "report.json")["operating_point"]
    call_test(
        monkeypatch, runs, "ckpt_path=a", "decision.max_escape_rate=0.4", "decision.confidence=0.8", "output_dir=looser"
    )
    looser = read(runs / "looser" / "report.json")["operating_point"]
    assert (looser["max_escape_rate"], looser["confidence"]) == (0.4, 0.8)
    assert looser["max_false_reject_rate"] == same["operating_point"]["max_false_reject_rate"]
    assert looser["accept_above"] is not None
    call_test(monkeypatch, runs, "ckpt_path=a", "evaluation.good_classes=[pore]", "output_dir=swapped")
    swapped = read(runs / "swapped" / "report.json")
    assert swapped["operating_point"]["num_defects"] == same["operating_point"]["num_sound"]
    call_test(monkeypatch, runs, "ckpt_path=a", "evaluation.good_classes=[]", "output_dir=nobody")
    assert set(pl.read_csv(runs / "nobody" / "predictions.csv")["verdict"]) == {"refer"}


def test_two_checkpoints_on_the_same_images(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call_test(monkeypatch, runs, "ckpt_path=[a,b]", "output_dir=both")
    found = read(runs / "both" / "comparison.json")
    first, second = (pl.read_csv(runs / "both" / name / "predictions.csv") for name in ("a", "b"))
    differ = first.filter(first["predicted"] != second["predicted"])
    assert [row["path"] for row in found["photographs"]] == differ["path"].to_list()
    accuracy = [(each["predicted"] == each["label"]).to_numpy().mean() for each in (first, second)]
    assert found["differences"]["accuracy"]["value"] == pytest.approx(accuracy[1] - accuracy[0])
    assert "McNemar" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt_path=a", "decision.max_escape_rate=1.5"], "between 0 and 1"),
        (["ckpt_path=a", "evaluation.good_classes=[fine]"], "allowed are good, pore"),
        (["ckpt_path=[a,b,a]"], "ckpt_path=[A,B]"),
        (["ckpt_path=[a,]"], "ckpt_path=[A,B]"),
    ],
)
def test_mistakes(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        call_test(monkeypatch, runs, *arguments, "output_dir=refused")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (runs / "refused").exists()


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_paths("a.ckpt") == ["a.ckpt"]
    assert split_paths("[a, b c.ckpt]") == ["a", "b c.ckpt"]
    (tmp_path / "[x]").mkdir()
    assert split_paths("[x]") == ["[x]"]
    with pytest.raises(InputError):
        split_paths("[]")


@pytest.mark.parametrize(("layer", "resolution"), [("layer2", [4, 2]), ("layer3", [2, 1])])
def test_the_layer_that_is_named_is_the_one_that_is_drawn(
    runs: Path, monkeypatch: pytest.MonkeyPatch, layer: str, resolution: list[int]
) -> None:
    # Nearly everything is a mistake where the classes are swapped.
    for old, new in (("good", "pore"), ("pore", "good")):
        shutil.copytree(runs / "welds" / old, runs / "swapped" / new, dirs_exist_ok=True)
    monkeypatch.setattr(resnet, "FINE_LAYER", layer)
    data = ["data=folder", "data.root=swapped", f"data.group_pattern={SEAM}", "data.allow_leak=true"]
    call_test(monkeypatch, runs, "ckpt_path=a", *data, f"output_dir={layer}")
    explanation = read(runs / layer / "report.json")["explanation"]
    assert (explanation["layer"], explanation["resolution"]) == (layer, resolution)
