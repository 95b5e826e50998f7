"""One name in two spellings: of a class, a group, a split, read from a disk or a file, or typed."""

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call, exit_code, refuse
from drawing import write_welds
from untrained import save_untrained

from weldnet.data.sources.folders import scan_folder
from weldnet.data.sources.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("undrawn")

COMPOSED = "L\u00e4ngsriss"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
SMALL = [
    "model=timm",
    "model.backbone=test_resnet",
    "model.weights=none",
    "data.image_size.height=32",
    "data.image_size.width=16",
    "data.batch_size=8",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "callbacks.dashboard=null",
    "logger.tensorboard=null",
]
FOLDER = ["data=folder", "data.root=welds"]
MANIFEST = ["data=manifest", "data.manifest=welds.csv"]


def audit(*typed: str) -> dict[str, Any]:
    exit_code("audit", *typed, "output_dir=audit")
    summary: dict[str, Any] = json.loads(Path("audit/audit.json").read_text())
    return summary


def write_rows(rows: Sequence[dict[str, str]]) -> None:
    """A manifest of photographs that are drawn for it."""
    write_welds(Path("welds"), ("x",), seams=range(len(rows)), shots=1)
    table = [{"path": f"welds/x/seam{number}_0.jpg"} | row for number, row in enumerate(rows)]
    pl.DataFrame(table).write_csv("welds.csv")


SAME = {
    "composed and decomposed": (COMPOSED, DECOMPOSED, COMPOSED),
    "a blank behind": ("crack", "crack ", "crack"),
    "a blank before": ("crack", " crack", "crack"),
    "two blanks": ("surface pore", "surface  pore", "surface pore"),
    "a blank that does not break": ("surface pore", "surface\u00a0pore", "surface pore"),
    "a blank without width": ("crack", "cr\u200back", "crack"),
    "a byte order mark": ("crack", "\ufeffcrack", "crack"),
    "a soft hyphen": ("crack", "cra\u00adck", "crack"),
}


AUDITED = ["composed and decomposed", "a blank behind"]


def write_both(here: Path, case: str) -> None:
    """Writes `welds` with a class in two spellings, and `good`."""
    first, second, _ = SAME[case]
    write_welds(here / "welds", (first, "good"), seams=range(4))
    write_welds(here / "welds", (second,), seams=range(4, 8))


def write_both_in_rows(case: str) -> None:
    first, second, _ = SAME[case]
    names = (first, second, "good", "good")
    write_rows([{"label": names[number % 4], "group": f"w{number}"} for number in range(16)])


@pytest.mark.parametrize("case", SAME)
def test_two_spellings_of_a_class_are_one(here: Path, case: str) -> None:
    write_both(here, case)
    table = scan_folder(here / "welds")
    assert set(table["label"]) == {SAME[case][2], "good"}
    assert len(table) == 24
    # Each file is opened by the name that the disk has.
    assert all(map(os.path.isfile, table["path"]))


@pytest.mark.parametrize("case", SAME)
def test_two_spellings_in_a_manifest_are_one(here: Path, case: str) -> None:
    write_both_in_rows(case)
    assert set(read_manifest("welds.csv")["label"]) == {SAME[case][2], "good"}


@pytest.mark.parametrize("case", AUDITED)
def test_the_audit_takes_two_spellings_of_a_class_for_one(here: Path, case: str) -> None:
    write_both(here, case)
    classes = sorted([SAME[case][2], "good"])
    summary = audit(*FOLDER, r"data.group_pattern=seam\d+")
    assert (summary["classes"], summary["num_images"], summary["num_unreadable"]) == (classes, 24, 0)
    assert not {found["kind"] for found in summary["findings"]} & {"alike_names", "unreadable"}
    write_both_in_rows(case)
    assert audit(*MANIFEST)["classes"] == classes


ALIKE = [
    ("Crack", "crack"),
    ("no defect", "nodefect"),
    ("GOOD", "good"),
    ("STRASSE", "Stra\u00dfe"),
    ("\uff30ore", "pore"),
]


@pytest.mark.parametrize("names", ALIKE, ids=",".join)
def test_classes_that_differ_by_case_or_blanks_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str]
) -> None:
    write_welds(here / "welds", (*names, "other"), seams=range(6))
    typed = [*FOLDER, r"data.group_pattern=seam\d+"]
    message = refuse(capsys, "train", *typed, *SMALL)
    for name in names:
        assert repr(name) in message
        assert str(here / "welds" / name / "seam0_0.jpg") in message
    assert not (here / "runs").exists()
    (found,) = (found for found in audit(*typed)["findings"] if found["kind"] == "alike_names")
    assert (found["severity"], len(found["paths"])) == ("error", 24)

    write_rows([{"label": names[number % 2], "group": f"w{number}"} for number in range(16)])
    message = refuse(capsys, "train", *MANIFEST, *SMALL)
    assert f"{names[0]!r}, first in row 2: " in message
    assert f"{names[1]!r}, first in row 3: " in message


SPLITS = ("train", "train", "val", "test")


def spell_groups(*names: str) -> list[dict[str, str]]:
    """Rows of 16 images, with these groups in train and in test, and groups of their own beside them."""
    rows = []
    for number in range(16):
        split, label = SPLITS[number % 4], ("good", "crack")[number // 4 % 2]
        group = names[split == "test"] if number in (0, 3) else f"w{number}"
        rows.append({"label": label, "group": group, "split": split})
    return rows


@pytest.mark.parametrize("case", SAME)
def test_a_group_in_two_spellings_is_one(here: Path, case: str) -> None:
    first, second, kept = SAME[case]
    write_rows(spell_groups(first, second))
    in_train, in_test = read_manifest("welds.csv")["group"].gather([0, 3])
    assert in_train == in_test == kept


@pytest.mark.parametrize("case", [*AUDITED, "two blanks"])
def test_the_leak_guard_knows_a_weld_in_any_spelling(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    first, second, kept = SAME[case]
    write_rows(spell_groups(first, second))
    message = refuse(capsys, "train", *MANIFEST, *SMALL)
    assert f"1 group in test also in train: {kept}" in message
    assert {found["kind"] for found in audit(*MANIFEST)["findings"]} >= {"group_leak"}


@pytest.mark.parametrize("typed", ["N\u00e4ht", "Na\u0308ht"])
def test_the_leak_guard_knows_a_weld_in_file_names(here: Path, capsys: pytest.CaptureFixture[str], typed: str) -> None:
    for split, name in (("train", "N\u00e4ht"), ("val", "Other"), ("test", "Na\u0308ht")):
        for file in write_welds(here / "welds" / split, ("crack", "good"), seams=range(2)).rglob("*.jpg"):
            file.rename(file.with_name(file.name.replace("seam", f"{split} {name} ")))
    message = refuse(capsys, "train", *FOLDER, rf"data.group_pattern={typed}|Other", *SMALL)
    assert "1 group in test also in train: N\u00e4ht\n" in message


@pytest.mark.parametrize("names", [("S1", "s1"), ("S 1", "S1"), ("weld A", "Weld a")], ids=",".join)
def test_groups_that_differ_by_case_or_blanks_are_a_finding(here: Path, names: tuple[str, str]) -> None:
    write_rows(spell_groups(*names))
    (found,) = (found for found in audit(*MANIFEST)["findings"] if found["kind"] == "alike_names")
    assert (found["severity"], len(found["paths"])) == ("warning", 2)
    assert all(repr(name) in found["detail"] for name in names)


@pytest.mark.slow
def test_a_run_in_any_spelling(here: Path) -> None:
    """Labels, good classes, groups and the list of a run: all in one spelling."""
    for split, seams in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        write_welds(here / "welds" / split, (DECOMPOSED, "gut "), seams=seams)
    good = "evaluation.good_classes=[gut]"
    call("train", *FOLDER, "data.groups=per_image", *SMALL, good, "output_dir=run")
    call("train", "data=manifest", "data.manifest=run/split.csv", *SMALL, good, "output_dir=again")
    first, again = (json.loads((here / run / "metrics.json").read_text()) for run in ("run", "again"))
    assert first["classes"] == [COMPOSED, "gut"]
    assert first["validation_groups"] == "per_image"
    assert again == {**first, "checkpoint_digest": again["checkpoint_digest"]} | {
        "validation": {**first["validation"], "checkpoint_digest": again["checkpoint_digest"]}
    }
    call("test", "ckpt_path=run", f'evaluation.good_classes=["{DECOMPOSED}"]', "output_dir=test")
    report = json.loads((here / "test" / "report.json").read_text())
    assert report["good_classes"] == [COMPOSED]

    write_rows([{"label": DECOMPOSED, "group": str(here / "welds/train/gut /seam0_0.jpg")}] * 2)
    call("test", "ckpt_path=run", *MANIFEST, "data.allow_leak=true", "output_dir=namesakes")
    metrics = json.loads((here / "namesakes" / "metrics.json").read_text())
    assert any("named like a weld of training or validation" in warning for warning in metrics["warnings"])


@pytest.mark.parametrize("typed", [COMPOSED, DECOMPOSED, f" {COMPOSED} "])
def test_a_typed_target(here: Path, typed: str) -> None:
    save_untrained(here / "run" / "checkpoints" / "best.ckpt", ("good", COMPOSED))
    write_welds(here / "welds", ("x",), seams=range(1), shots=1)
    call("explain", "ckpt_path=run", "source=welds", f"target={typed}", "output_dir=explained")
    assert json.loads((here / "explained" / "explained_by.json").read_text())["target"] == COMPOSED


def test_a_name_that_ends_in_a_blank(here: Path) -> None:
    """A manifest trims a path unless the file's own name has the blank."""
    write_welds(here / "welds", ("crack",), seams=range(2), shots=1)
    (here / "welds/crack/seam0_0.jpg").rename("welds/crack/seam0_0.jpg ")
    Path("welds.csv").write_text("path,label\nwelds/crack/seam0_0.jpg ,crack\n welds/crack/seam1_0.jpg ,crack\n")
    assert audit(*MANIFEST)["num_unreadable"] == 0
