"""Several seeds together: mean and spread of each figure, beside the interval of each seed."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawing import make_table
from rich.console import Console

from weldnet.evaluation.metrics import METRICS
from weldnet.files import write_json
from weldnet.inference.evaluation_report import EvaluationReport
from weldnet.training.seeds_report import SeedsReport, read_seeds

CLASSES = ["crack", "pore"]
FACTS = {
    "num_trained_on": 0,
    "leaks": ["one seam twice"],
    "warnings": ["a warning of every seed"],
    "validation_groups": "unseen",
    "selection": "the run kept the last epoch",
    "split_digest": "ab",
}


def write_seed(folder: Path, seed: int, *, num_welds: int, validated: bool = True) -> None:
    """Writes `report.json` as the run of one seed leaves it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(48) % 2
    rows = [(f"/data/{row}.jpg", CLASSES[label], f"S{row % num_welds}", "test") for row, label in enumerate(labels)]
    made = [
        EvaluationReport(
            rng.normal(size=(48, 2)) + np.eye(2)[labels], labels, CLASSES, make_table(rows), FACTS | {"split": split}
        ).assess()
        for split in ("test", "val")
    ]
    folder.mkdir()
    write_json(folder / "report.json", made[0] | {"validation": made[1] if validated else None})


def read(folder: Path, seeds: range, num_seeds: int = 3) -> SeedsReport:
    return read_seeds({seed: folder / f"seed_{seed}" for seed in seeds}, num_seeds)


def show(report: SeedsReport) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        for table in report.tables():
            console.print(table)
    return captured.get()


def test_each_seed_has_its_interval_and_all_have_a_spread(tmp_path: Path) -> None:
    for seed in range(5, 8):
        write_seed(tmp_path / f"seed_{seed}", seed, num_welds=12)
    report = read(tmp_path, range(5, 8))
    report.save(tmp_path)
    figures = json.loads((tmp_path / "seeds.json").read_text())
    own = {seed: json.loads((tmp_path / f"seed_{seed}" / "report.json").read_text()) for seed in range(5, 8)}
    for metric in METRICS:
        for each, found in ((own, figures), ({n: o["validation"] for n, o in own.items()}, figures["validation"])):
            values = [report[metric.key] for report in each.values()]
            assert found["mean"][metric.key] == pytest.approx(np.mean(values))
            assert found["spread"][metric.key] == pytest.approx(np.std(values, ddof=1))
        for row in figures["seeds"]:
            interval = own[row["seed"]]["by_group"][metric.key]
            assert row["figures"][metric.key]["value"] == pytest.approx(own[row["seed"]][metric.key])
            assert row["figures"][metric.key].items() <= interval.items()
            assert row["validation"][metric.key] == own[row["seed"]]["validation"][metric.key]
    assert (figures["num_seeds"], figures["split"]) == (3, "test")
    assert (figures["leaks"], figures["warnings"]) == (["one seam twice"], ["a warning of every seed"])
    assert [row["selection"] for row in figures["seeds"]] == ["the run kept the last epoch"] * 3
    text = show(report)
    assert "test: 3 of 3 seeds" in text
    assert f"± {figures['spread']['kappa']:.4f}" in text
    assert "LEAK: one seam twice" in text


def test_few_welds_have_no_interval_and_one_seed_no_spread(tmp_path: Path) -> None:
    write_seed(tmp_path / "seed_0", 0, num_welds=2, validated=False)
    report = read(tmp_path, range(1))
    figures = report.metrics
    assert figures["spread"]["accuracy"] is None
    assert figures["validation"] is None
    assert "only 2 welds" in figures["seeds"][0]["figures"]["accuracy"]["reason"].replace("group", "weld")
    text = show(report)
    assert "1 of 3 seeds" in text
    assert "±" not in text
