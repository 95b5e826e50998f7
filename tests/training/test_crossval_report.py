"""The folds together: every image counted once, whatever the size of its fold."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawing import make_table
from rich.console import Console

from weldnet.evaluation.metrics import summarise
from weldnet.files import write_json
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.report.writer import save_evaluation
from weldnet.training.crossval_report import FILES, CrossvalReport, read_folds

CLASSES = ["crack, long", "[pore]", "undercut"]
LABELS = [np.array([0, 1, 1, 0, 2, 2, 0]), np.array([1, 0, 0])]
LOGITS = [np.random.default_rng(fold).normal(0, 30, (len(labels), 3)) for fold, labels in enumerate(LABELS)]


@pytest.fixture
def folders(tmp_path: Path) -> dict[int, Path]:
    """Two folds as their tests leave them; the third class is absent from the second."""
    for fold, (logits, labels) in enumerate(zip(LOGITS, LABELS, strict=True)):
        folder = tmp_path / f"fold_{fold}"
        folder.mkdir()
        assert not any((folder / name).exists() for name in FILES)
        rows = [(f"/data/{fold}_{i}.jpg", CLASSES[c], f"00{fold}{i // 2}", "test") for i, c in enumerate(labels)]
        facts = {
            "split": "test",
            "num_trained_on": 0,
            "leaks": ["one seam twice"] if fold else [],
            "warnings": ["a warning of every fold"],
            "validation_groups": "unseen",
            "split_digest": str(fold),
            "checkpoint_digest": "",
        }
        save_evaluation(EvaluationReport(logits, labels, CLASSES, make_table(rows), facts), folder)
        assert all((folder / name).is_file() for name in FILES)
        write_json(folder / "report.json", {"good_classes": []})
    return {fold: tmp_path / f"fold_{fold}" for fold in range(2)}


def shown(report: CrossvalReport) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        for table in report.tables():
            console.print(table)
    return captured.get()


def test_pooled_is_the_summary_of_all_images(folders: dict[int, Path], tmp_path: Path) -> None:
    report = read_folds(folders, num_folds=2)
    groups = [f"00{fold}{i // 2}" for fold, labels in enumerate(LABELS) for i in range(len(labels))]
    expected = summarise(np.concatenate(LOGITS), np.concatenate(LABELS), CLASSES, groups)
    pooled = report.metrics["pooled"]
    assert pooled["loss"] == pytest.approx(expected.pop("loss"))
    assert {k: v for k, v in pooled.items() if k != "loss"} == expected
    report.save(tmp_path)
    figures = json.loads((tmp_path / "crossval.json").read_text())
    accuracies = [summarise(a, b, CLASSES, [None] * len(b))["accuracy"] for a, b in zip(LOGITS, LABELS, strict=True)]
    assert figures["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert figures["spread"]["accuracy"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / np.sqrt(2))
    assert [fold["not_measured"] for fold in figures["folds"]] == [[], ["undercut"]]
    assert [fold["num_groups"] for fold in figures["folds"]] == [4, 2]
    assert figures["leaks"] == ["one seam twice"]
    assert figures["warnings"] == ["a warning of every fold"]
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0].startswith('path,label,group,fold,predicted,iso_6520_1,verdict,unlike_training,"p_crack, long"')
    assert [line.split(",0,")[0] for line in lines[1:2]] == ['/data/0_0.jpg,"crack, long",0000']
    own = [folder.joinpath("predictions.csv").read_text().splitlines()[1:] for folder in folders.values()]
    assert [line.split(",")[-3:] for line in lines[1:]] == [line.split(",")[-3:] for fold in own for line in fold]
    text = shown(report)
    assert "10 images, each held out once, 2 folds (LEAK)" in text
    assert "LEAK: one seam twice" in text
    assert text.count("[pore]") == 1


def test_some_of_the_folds(folders: dict[int, Path]) -> None:
    report = read_folds({0: folders[0]}, num_folds=5)
    assert report.metrics["spread"]["accuracy"] is None
    text = shown(report)
    assert "1 of 5 folds" in text
    assert "±" not in text
