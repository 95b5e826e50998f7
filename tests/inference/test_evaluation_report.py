"""The report's files: complete, exact, all or nothing."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from drawing import make_table
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from weldnet.evaluation.metrics import summarise
from weldnet.files import write_text
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.report.writer import save_evaluation

CLASSES = ("crack", "no_defect", "pore")
FILES = ["confusion_matrix.png", "metrics.json", "predictions.csv"]


def make_report(classes: Sequence[str] = CLASSES) -> EvaluationReport:
    """Twelve images; the last class has none."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 6)
    table = make_table((f"/data/{i},a.jpg", classes[label], f"g{i}", "test") for i, label in enumerate(labels))
    facts = {"split": "test", "split_digest": "ab12", "warnings": ["beware"]}
    return EvaluationReport(rng.normal(size=(12, len(classes))), labels, classes, table, facts)


def test_metrics_json(tmp_path: Path) -> None:
    report = make_report()
    save_evaluation(report, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == summarise(report.logits, report.labels, CLASSES, report.samples["group"].to_list()) | report.facts
    assert metrics["not_measured"] == ["pore"]
    assert metrics["per_class"]["pore"]["recall"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    with Image.open(tmp_path / "confusion_matrix.png") as image:
        image.load()
        assert min(image.size) > 300


def test_predictions_csv(tmp_path: Path) -> None:
    report = make_report()
    save_evaluation(report, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("path", "label", "group", "predicted", "iso_6520_1", "verdict", "unlike_training"),
        *("p_crack", "p_no_defect", "p_pore"),
    ]
    assert len(rows) == 12
    for row, sample in zip(rows, report.samples.to_dicts(), strict=True):
        assert {key: row[key] for key in ("path", "label", "group")} == {
            key: sample[key] for key in ("path", "label", "group")
        }
        probabilities = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1)
        assert max(probabilities, key=probabilities.__getitem__) == row["predicted"]
    hits = sum(row["label"] == row["predicted"] for row in rows)
    assert report.metrics()["accuracy"] == pytest.approx(hits / 12)


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    for metrics in ({"validation": {"accuracy": 0.5}}, None):
        save_evaluation(make_report(), tmp_path, metrics)
        assert json.loads((tmp_path / "metrics.json").read_text()) == (metrics or make_report().metrics())
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize(
    "classes",
    [
        ("Riss", "Pore", "Schweißspritzer"),
        ("裂纹", "气孔", "未熔合"),
        ("a$b$c", r"$\frac$", "$"),
        ("label", "path", "predicted"),
        ("a b,c", 'd"e', "f/g"),
    ],
)
def test_any_class_names(tmp_path: Path, classes: Sequence[str]) -> None:
    save_evaluation(make_report(classes), tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["classes"] == list(classes)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == [f"p_{name}" for name in classes]
    assert {row["predicted"] for row in rows} <= set(classes)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(file: Path, text: str, **_: object) -> None:
        file.write_bytes(text.encode()[:5])
        raise OSError("no space left on device")

    def fill_it_while_drawing(_: Figure, file: Path, **__: object) -> None:
        file.write_bytes(b"\x89PNG")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill_the_disk)
        with pytest.raises(OSError, match="no space"):
            save_evaluation(make_report(), tmp_path)
    assert not any((tmp_path / name).exists() for name in FILES)
    monkeypatch.setattr(Figure, "savefig", fill_it_while_drawing)
    with pytest.raises(OSError, match="no space"):
        save_evaluation(make_report(), tmp_path)
    assert not (tmp_path / "confusion_matrix.png").exists()
    json.loads((tmp_path / "metrics.json").read_text())


def test_write_text_keeps_the_old_file_until_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old, ß")
    assert file.read_text(encoding="utf-8") == "old, ß"

    def fail(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError):
            write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "old, ß"


def test_table_for_the_terminal() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(make_report().table())
    text = captured.get()
    metrics = make_report().metrics()
    assert "test: 12 images" in text
    assert re.search(r"pore\W+not measured", text)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "loss"):
        assert f"{metrics[name]:.4f}" in text
    for name in ("crack", "no_defect"):
        assert f"{metrics['per_class'][name]['recall']:.4f}" in text
