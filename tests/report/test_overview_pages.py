"""The pages of a comparison and a cross-validation: whole, harmless, and accessible in a browser."""

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pages import check_accessible
from PIL import Image
from report_pages import CLASSES
from rich.console import Console

from weldnet.console import print_table
from weldnet.evaluation.comparison import compare
from weldnet.evaluation.metrics import METRICS, summarise, summarise_confusion
from weldnet.report.overview import draw_differences, render_comparison, render_crossval, tabulate_differences
from weldnet.report.page import render
from weldnet.report.photographs import name_file
from weldnet.report.tables import Table
from weldnet.training.spread import summarise_spread

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

RNG = np.random.default_rng(0)


def compare_figures(*leaks: str, welds: int = 12, share_right: float = 0.7) -> dict[str, Any]:
    labels = RNG.integers(0, len(CLASSES), 120)
    first, second = (
        np.where(RNG.random(120) < share_right, labels, RNG.integers(0, len(CLASSES), 120)) for _ in range(2)
    )
    found = compare(first, second, labels, [f"weld {row % welds}" for row in range(120)], CLASSES, ["good"], 50)
    photographs = [
        {"row": row, "path": f"/data/<i>{row}.png", "label": CLASSES[1], "first": CLASSES[0], "second": CLASSES[1]}
        for row in found["differing"]
    ]
    sides: dict[str, Any] = {"first": {"leaks": [], "split": "test"}, "second": {"leaks": leaks, "split": "test"}}
    return found | sides | {"photographs": photographs, "good_classes": ["good"]}


def compare_two(folder: Path, *leaks: str, **data: Any) -> str:
    comparison = compare_figures(*leaks, **data)
    for letter, row in zip("ab", comparison["differing"], strict=False):
        file = folder / letter / name_file(row)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(file)
    return render_comparison(comparison, ("runs/train/<a>", "runs/train/b"), folder)


def cross_validate(folder: Path, *leaks: str, good: Sequence[str] = ("good",)) -> str:
    folds = []
    for fold in range(3):
        logits, labels = RNG.normal(size=(60, len(CLASSES))), np.arange(60) % len(CLASSES)
        figures = summarise(logits, labels, CLASSES, [f"weld {row % 12}" for row in range(60)])
        folds.append(figures | {"fold": fold, "num_groups": 12})
    pooled = summarise_confusion(np.sum([fold["confusion_matrix"] for fold in folds], axis=0), CLASSES)
    metrics = {"pooled": pooled, "folds": folds, "leaks": leaks, "warnings": ["<b>one</b>"]}
    return render_crossval(summarise_spread(folds, "folds") | metrics, good, "<run>")


def test_a_comparison_names_both_and_every_difference(tmp_path: Path) -> None:
    page = compare_two(tmp_path, "same <i>weld</i>")
    assert "<h1>Comparison of A and B</h1>" in page
    assert re.search("<strong>A [0-9.]+\u00a0%, B [0-9.]+\u00a0%</strong><small>B minus A: [+\u2212]", page)
    assert "A: runs/train/&lt;a&gt;" in page
    assert "LEAK: B: same &lt;i&gt;weld&lt;/i&gt;" in page
    assert all(metric.label in html.unescape(page) for metric in METRICS if metric.key != "loss")
    shown = page.count('class="photo"')
    assert f"Photographs predicted differently: {shown}" in page
    assert sorted(file for file in re.findall('<a href="([^"]+jpg)"><img src="([^"]+)"', page)) == sorted(
        (name, name) for name in (file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.jpg"))
    ), "each picture where one of the two reports has it"
    assert page.count("no picture") == shown - 2
    assert page.count(f"B predicted <b><bdi>{html.escape(CLASSES[1])}</bdi></b>, right") == shown
    assert "significantly" in page
    assert "no interval" not in page
    few = compare_two(tmp_path / "few", welds=2)
    assert "no interval: only 2 welds" in few
    assert "Too few welds to find either more accurate: " in few
    assert "A and B predict the same class for every photograph." not in page


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.1, 0.2, "Neither is significantly more accurate: B alone"),
        (0.1, 0.2, "B is significantly more accurate: B alone"),
        (-0.2, -0.1, "A is significantly more accurate: A alone"),
        (None, None, "Too few welds to find either more accurate: B alone"),
    ],
)
def test_a_difference_is_significant_by_whole_welds(low: float | None, high: float | None, sentence: str) -> None:
    comparison = compare_figures()
    comparison["differences"]["accuracy"] |= {"low": low, "high": high, "reason": "few"}
    is_first = high is not None and high < 0
    # As if every photograph showed a different weld, it would be beyond doubt.
    comparison["mcnemar"] |= {"p_value": 1e-9, "num_first_only": 99 * is_first, "num_second_only": 99 * (not is_first)}
    assert sentence in str(draw_differences(comparison).caption)


def test_a_comparison_in_the_terminal_has_every_letter_of_a_leak(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(draw_differences(compare_figures("trained on a[/b].png [bold]")))
    assert "LEAK (B): trained on a[/b].png [bold]" in " ".join(capsys.readouterr().out.split())


def test_two_that_predict_alike_have_a_page(tmp_path: Path) -> None:
    page = compare_two(tmp_path, share_right=1)
    assert "A and B predict the same class for every photograph." in page
    assert 'class="photo"' not in page


def test_a_cross_validation_shows_folds_classes_and_kinds_of_mistakes(tmp_path: Path) -> None:
    page = cross_validate(tmp_path)
    assert "&lt;b&gt;one&lt;/b&gt;" in page
    assert "<h1>Cross-validation: &lt;run&gt;</h1>" in page
    assert re.search(r"<small>spread [0-9.]+ points</small>", page)
    assert "in the mean of the folds, with a spread of " in page
    assert "<small>escape</small>" in page
    assert '<a href="fold_1/report.html">' in page
    assert "LEAK: of fold 1" in cross_validate(tmp_path, "of fold 1")
    assert "<strong>-</strong><small>0 of 0</small>" in cross_validate(tmp_path, good=CLASSES), "no share of nothing"


def test_a_name_breaks_behind_an_underscore() -> None:
    shown = render("sections/table.html", it=Table(["class"], [["not_<b>_fused"]]))
    assert "<bdi>not_<wbr>&lt;b&gt;_<wbr>fused</bdi>" in shown.replace("\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("make", [compare_two, cross_validate])
def test_axe_finds_nothing(make: Any, browser: "WebDriver", tmp_path: Path) -> None:
    page = make(tmp_path)
    (tmp_path / "page.html").write_text(page, "utf-8")
    browser.get((tmp_path / "page.html").as_uri())
    check_accessible(browser)
    for width in (320, 1280):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_numbers_keep_their_unit_on_the_line(tmp_path: Path) -> None:
    page = cross_validate(tmp_path)
    assert re.search(r"<strong>[\d.]+\u00a0%</strong><small>spread ", page)
    assert not re.search(r"\d %", page.partition("</style>")[2]), "in texts and tables, too"


def test_a_comparison_shows_both_beside_their_difference() -> None:
    row = {"first": 0.5, "second": 0.479, "value": -0.021, "low": -0.05, "high": -0.00001}
    table = tabulate_differences(dict.fromkeys(("accuracy", "kappa", "loss"), row))
    assert table.rows == [
        ["Accuracy", "50.0 %", "47.9 %", "\u22122.1 points", "\u22125.0 to +0.0 points"],
        ["Cohen's kappa", "0.5000", "0.4790", "\u22120.0210", "\u22120.0500 to +0.0000"],
        ["Loss, uncalibrated (nats)", "0.5000", "0.4790", "\u22120.0210", "\u22120.0500 to +0.0000"],
    ]
    file = io.StringIO()
    print_table(table.draw(""), Console(width=200, file=file))
    assert "-5.0 to +0.0 points" in file.getvalue(), "not every terminal can show a true minus sign"
