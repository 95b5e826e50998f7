"""The report as a page: true sentences, hostile names, nothing loaded, every gap in the data, and a bounded size."""

import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from calling import without_charts
from drawing import save_image
from pages import check_page
from PIL import Image
from report_pages import CLASSES, HISTORY, make_report, save

from weldnet.errors import InputError
from weldnet.report.album import Album, fit
from weldnet.report.headline import write_headline
from weldnet.report.photographs import FOLDER, choose_samples, copy_photographs, name_file, rank
from weldnet.report.tables import tabulate_confusion, tabulate_welds
from weldnet.report.terms import TERMS
from weldnet.report.words import compare_with_validation, percent


def test_the_page_of_hostile_names_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    report, gallery = make_report(vocabulary={"good": "<u>"})
    report |= {
        "data": [{"label": CLASSES[1], "split": "test", "images": 1234, "welds": 5}],
        "audit": [{"kind": "no_groups", "severity": "note", "detail": "<script>"}],
        "provenance": {
            "checkpoint": "/runs/<script>/checkpoints/best.ckpt",
            "date": "2026-01-02T03:04:05",
            "config": "a: <script>\nb: 1",
            "versions": {"torch": "2.9"},
        },
        "explanation": {"method": "hires_cam", "layer": "layer3", "resolution": [19, 2]},
    }
    page = save(report, gallery, tmp_path)
    inner = {address[1:] for address in check_page(page, tmp_path).addresses if address.startswith("#")}
    cells = {f"cell-{i}-{j}" for i, row in enumerate(report["confusion_matrix"]) for j, n in enumerate(row) if n}
    assert cells == {name for name in inner if name.startswith("cell-")}
    assert "a map of 19" in page
    assert "<td>1,234<small>5 welds</small></td>" in page
    assert "Test report: &lt;script&gt;" in page
    assert "2026-01-02: 120 test images" in page
    assert html.escape(compare_with_validation(report)) in page
    for name in ("reliability", "referral", "per_class"):
        assert f'id="{name}-' in page


def test_the_gap_between_known_and_unseen_welds_is_stated() -> None:
    report, _ = make_report()
    gap = 100 * (report["validation"]["balanced_accuracy"] - report["balanced_accuracy"])
    sentence = compare_with_validation(report)
    assert f"known from training, the balanced accuracy is {gap:.1f} points higher than on the test" in sentence
    assert sentence.endswith(" Expect the lower figure on new welds.")
    for change in ({"leaks": ["x"]}, {"validation_groups": "unseen"}, {"split": "train"}):
        assert "Expect" not in compare_with_validation(report | change)
    assert compare_with_validation(report | {"split": "val"}) == ""
    assert compare_with_validation(report | {"validation": None}) == ""


def test_nothing_is_said_twice(tmp_path: Path) -> None:
    report, gallery = make_report()
    page = save(report, gallery, tmp_path)
    reasons = [*report["operating_point"]["reasons"], *(each["text"] for each in report["headline"]["reasons"])]
    assert any("calibration photographs" in reason for reason in reasons)
    assert max(page.count(html.escape(reason)) for reason in reasons) == 1


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"calibrated": False}, "The checkpoint is not calibrated"),
        ({"good": ()}, "No class of sound welds is known"),
        ({"welds": None, "validation_groups": "unknown"}, "It is unknown which weld a photograph shows."),
        ({"welds": 1}, "Only 1 weld: too few for an interval (10 needed)"),
        ({"welds": 120}, "Every photograph is a weld of its own."),
        ({"keep": 3}, "not measured: no image of it in this split"),
        ({"keep": 1}, "no defect is among these images"),
        ({"classes": ("good", "bad")}, "Confusion matrix"),
        ({"number": 1, "welds": 1}, "Confusion matrix"),
        ({"leaks": ["3 groups in test also in train"]}, "<p>LEAK: 3 groups in test"),
        ({"split": "all"}, "images of all splits"),
    ],
)
def test_whatever_is_missing(options: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    report, gallery = make_report(**options)
    assert wanted in save(report, gallery, tmp_path)
    bare = {key: value for key, value in report.items() if key not in ("validation", "leaks", "warnings")}
    assert wanted in save(bare, gallery, tmp_path) or "leaks" in options


TWO = ("good", "crack")
ALL_SEEN = {"num_trained_on": 120}


@pytest.mark.parametrize(
    ("options", "status", "sentence", "missed", "actions"),
    [
        ({"leaks": ["x"]}, "invalid", "prove nothing", ["escapes"], ["different welds: data=folder data.root=DIR"]),
        (ALL_SEEN, "invalid", "prove nothing", ["escapes"], ["different welds"]),
        ({"split": "all"}, "invalid", "chose the epoch", ["escapes"], ["split=test"]),
        (
            {"calibrated": False},
            "not_fit",
            "goes to an inspector",
            ["decided without an inspector"],
            ["ckpt_path=best"],
        ),
        ({"good": ()}, "not_fit", "goes to an inspector", ["escapes"], ["evaluation.good_classes"]),
        ({"classes": TWO}, "not_fit", "accepts too many defects", ["escapes"], ["Look at the mistakes"]),
        (
            {"welds": None, "classes": TWO, "skill": 9.0, "validation_groups": "unknown"},
            "not_proven",
            "too few welds",
            ["defective welds tested"],
            ["data.group_by"],
        ),
        (
            {"classes": TWO, "skill": 9.0, "keep": 1},
            "not_fit",
            "rejects too many sound welds",
            ["escapes"],
            ["photographs of these classes"],
        ),
        (
            {"number": 600, "classes": TWO, "skill": 9.0},
            "not_proven",
            "too few welds",
            ["escapes"],
            ["Test about 47 more defective welds, by weldnet-test with data=folder data.root=DIR"],
        ),
        ({"number": 900, "classes": TWO, "skill": 9.0, "welds": 450}, "fit", "Fit to decide alone", [], []),
    ],
)
def test_the_headline_says_whether_it_may_decide_alone(
    options: dict[str, Any], status: str, sentence: str, missed: list[str], actions: list[str], tmp_path: Path
) -> None:
    report, gallery = make_report(**{"validation_groups": "unseen", **options})
    with without_charts():
        page = save(report, gallery, tmp_path)
    headline = json.loads((tmp_path / "report.json").read_text())["headline"]
    assert (headline["status"], sentence in headline["sentence"]) == (status, True)
    assert len(headline["sentence"].split()) < 25
    assert set(missed) <= {figure["name"] for figure in headline["figures"] if not figure["met"]}
    assert (status == "fit") == all(figure["met"] for figure in headline["figures"]), "invalid cases miss some as well"
    advice = [reason["action"] for reason in headline["reasons"]]
    assert all(any(action in each for each in advice) for action in actions), advice
    assert bool(advice) == (status != "fit")
    shown = re.sub("</?code>", "", page).replace("\u00a0", " ")
    for text in (headline["sentence"], *advice):
        assert html.escape(text) in shown
    for figure in headline["figures"]:
        if figure["met"] and figure["bound"] is not None:
            assert figure["value"] <= figure["bound"] <= figure["target"]


@pytest.mark.parametrize(
    ("changes", "status", "shown"),
    [
        ({}, "fit", ""),
        ({"not_measured": ["crack"]}, "not_proven", "Classes without a photograph in the test: crack."),
        (
            {"confidence": 0.99, "photographs": (1, 100), "welds": (1, 100)},
            "not_proven",
            "at most 6.5 % escapes",
        ),
        ({"confidence": 0.95, "photographs": (1, 100), "welds": (1, 100)}, "fit", ""),
        ({"photographs": (3, 120), "welds": (1, 100)}, "not_proven", "3 of 120 defective photographs were accepted"),
    ],
)
def test_fit_is_proven_at_the_confidence_that_was_asked_for(changes: dict[str, Any], status: str, shown: str) -> None:
    report, _ = make_report(900, TWO, skill=9.0, welds=450, validation_groups="unseen")
    report["not_measured"] = changes.get("not_measured", [])
    report["operating_point"]["confidence"] = changes.get("confidence", 0.95)
    for unit in ("photographs", "welds"):
        if unit in changes:
            k, n = changes[unit]
            report["verdicts"][unit]["escapes"] |= {"k": k, "n": n, "value": k / n}
    headline = write_headline(report)
    assert headline["status"] == status
    assert shown in " ".join(reason["text"] for reason in headline["reasons"])
    assert bool(headline["reasons"]) == (status != "fit")


def test_the_terms_of_the_report_are_those_of_the_docs() -> None:
    docs = " ".join((Path(__file__).parents[2] / "docs" / "terms.md").read_text().split())
    assert len(TERMS) >= 10
    assert [term for term, meaning in TERMS.items() if f"- **{term}**: {meaning}" not in docs] == []


@pytest.mark.slow
def test_ten_thousand_images_stay_a_page(tmp_path: Path) -> None:
    report, gallery = make_report(10_000, ("good", *"bcdefg"), welds=300, skill=0.0)
    page = save(report, gallery, tmp_path)
    assert "The 1,000 of 10,000 photographs" in page
    assert len(page.encode()) < 5_000_000


def test_without_room_the_words_stay() -> None:
    _, gallery = make_report()
    shown = dict.fromkeys(gallery.ranked["row"][:2], np.zeros((50, 40, 3), np.uint8))
    first, second = replace(gallery, overlays=shown, album=Album(bytes_left=1)).list_cards(CLASSES)[:2]
    assert first["heatmap"]
    assert second["heatmap"] is None
    assert second["label"] in CLASSES


def test_the_worst_photographs_come_first() -> None:
    columns = ("label", "predicted", "verdict")
    rows = [
        ("good", "good", "accept"),
        ("pore", "good", "refer"),
        ("pore", "crack", "refer"),
        ("pore", "pore", "accept"),
        ("good", "pore", "reject"),
        ("pore", "good", "reject"),
    ]
    table = pl.DataFrame(dict(zip(columns, zip(*rows, strict=True), strict=True)))
    losses = np.array([0.1, 1.0, 3.0, 0.2, 2.0, 1.5])
    assert rank(table, losses, ["good"]).rows() == [
        (5, "escape"), (1, "escape"), (3, "escape"), (2, "mistake"), (4, "mistake"), (0, "right"),
    ]  # fmt: skip
    kinds = [kind for _, kind in rank(table, losses, []).rows()]
    assert kinds == ["mistake"] * 4 + ["right"] * 2, "without a class of sound welds nothing can escape"


def test_photographs_are_copied_as_they_are(tmp_path: Path) -> None:
    sizes = {"wide.png": (2048, 512), "small.jpg": (60, 40), "changed.png": (60, 40), "broken.png": (60, 40)}
    for number, (name, size) in enumerate(sizes.items()):
        save_image(tmp_path / name, np.full((size[1], size[0], 3), 40 + 50 * number, np.uint8))
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in sizes]
    table = pl.DataFrame({"path": [str(tmp_path / name) for name in sizes], "digest": digests})
    save_image(tmp_path / "changed.png", np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "00099.jpg").write_bytes(b"of an earlier report")
    (tmp_path / FOLDER / "mine.jpg").write_bytes(b"of somebody else")
    found = copy_photographs(table, [3, 2, 1, 0], "full", tmp_path)
    assert found == {0: (1024, 256), 1: (60, 40)}
    assert {file.name for file in (tmp_path / FOLDER).iterdir()} == {"00000.jpg", "00001.jpg", "mine.jpg"}
    for row, (size, level) in {0: ((1024, 256), 40), 1: ((60, 40), 90)}.items():
        with Image.open(tmp_path / name_file(row)) as image:
            assert image.size == size
            assert abs(np.asarray(image).mean() - level) < 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FOLDER).symlink_to(tmp_path / FOLDER)
    with pytest.raises(InputError, match="is a symbolic link"):
        copy_photographs(table, [0], "full", tmp_path / "run")


def test_the_curves_and_samples_of_a_run_are_shown(tmp_path: Path) -> None:
    report, gallery = make_report()
    assert 'id="curves"' not in save(report, gallery, tmp_path)
    report |= {"history": HISTORY, "provenance": {"trained_epochs": 2}}
    page = save(report, gallery, tmp_path)
    assert 'id="curves"' in page
    assert "epoch 2, which was tested" in page
    assert "What each class looks like" in page
    for name in ("loss", "balanced_accuracy"):
        assert f'id="history_{name}-' in page


def test_samples_of_a_class_are_of_different_welds() -> None:
    table = pl.DataFrame({"label": ["a"] * 7 + ["b"], "group": [*"xxxyyz", None, None], "path": [*"01234567"]})
    samples = choose_samples(table)
    assert samples.filter(label="a")["row"].to_list() == [0, 3, 5, 6]
    assert samples.filter(label="b")["row"].to_list() == [7]


def test_a_mistake_of_the_matrix_says_what_it_is() -> None:
    report = {"classes": ["good", "pore", "crack"], "confusion_matrix": [[3, 1, 0], [2, 4, 1], [0, 0, 5]]}
    for good, kinds in (
        (
            ["good"],
            [["right", "false_call", "false_call"], ["escape", "right", "mix_up"], ["escape", "mix_up", "right"]],
        ),
        ([], [["right", "mix_up", "mix_up"], ["mix_up", "right", "mix_up"], ["mix_up", "mix_up", "right"]]),
    ):
        rows = tabulate_confusion(report | {"good_classes": good})
        assert [[cell.kind for cell in cells] for _, cells in rows] == kinds
    assert rows[0][1][1][:2] == (1, 0.25)


def test_forty_classes(tmp_path: Path) -> None:
    report, gallery = make_report(160, ("good", *(f"class {i}" for i in range(39))), skill=0.0)
    page = save(report, gallery, tmp_path)
    assert page.count("<img") < 2000


def test_sizes() -> None:
    assert fit(30, 300, 260, widen=True) == (52, 260)
    assert fit(300, 30, 260, widen=True) == (260, 52)
    assert fit(30, 300, 260, widen=False) == (26, 260)


def test_numbers_in_words() -> None:
    shown = [percent(value) for value in (None, 0.0, 1.0, 0.5, 0.9999, 0.00001)]
    assert shown == ["-", "0 %", "100 %", "50.0 %", ">99.9 %", "<0.1 %"]


def test_welds_are_listed_the_least_accurate_first() -> None:
    table = pl.DataFrame(
        {
            "group": ["a", "a", "b", "b"],
            "label": ["good", "crack", "crack", "crack"],
            "predicted": ["good", "crack", "good", "crack"],
            "verdict": ["accept", "reject", "accept", "refer"],
        }
    )
    found = tabulate_welds(table, {"good_classes": ["good"], "verdicts": {}})
    assert found is not None
    (head, rows), total = found
    assert [row[0] for row in rows] == ["b", "a"]
    assert total == 2
    expected = {"images": "2", "accuracy": "50.0 %", "defects": "2", "defects predicted as sound": "1"}
    expected |= {"defects accepted": "1", "accept": "1", "reject": "0", "refer": "1"}
    assert dict(zip(head, rows[0], strict=True)) == {"weld": "b"} | expected
