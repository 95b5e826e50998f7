"""weldnet-audit through its real main: every planted fault is found, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import exit_code
from drawing import draw_noise, write_welds
from PIL import Image
from planting import (
    Found,
    Welds,
    expect,
    plant_bad_photographs,
    plant_copies,
    plant_files,
    plant_groups_and_classes,
    plant_near_copies,
    plant_views,
)

from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.sources.manifest import read_manifest
from weldnet.data.sources.source import Manifest
from weldnet.report.kinds import KINDS


def read(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return summary


def found_in(folder: Path) -> Found:
    findings = read(folder)["findings"]
    found = {(one["kind"], one["severity"], frozenset(one["paths"])) for one in findings}
    assert len(found) == len(findings), "no finding is reported twice"
    assert all(one["detail"] for one in findings)
    return found


def test_a_clean_set_has_no_findings(here: Path, capsys: Any) -> None:
    manifest = Welds(here).write()
    assert exit_code("audit", "data=manifest", f"data.manifest={manifest}") == 0
    (run,) = (here / "runs" / "audit").iterdir()
    assert sorted(file.name for file in run.iterdir()) == ["audit.html", "audit.json"]
    summary = read(run)
    assert summary["findings"] == []
    assert summary["num_images"] == 40
    assert summary["classes"] == ["crack", "pore"]
    assert summary["splits"] == {"train": 24, "val": 8, "test": 8}
    printed = capsys.readouterr().out
    assert "0 errors, 0 warnings, 0 notes on 40 images" in printed
    assert str(run.relative_to(here) / "audit.html") in printed


def test_every_planted_fault_is_found_and_nothing_else(here: Path) -> None:
    welds = Welds(here)
    planted = plant_files(welds) | plant_copies(welds) | plant_near_copies(welds) | plant_views(welds)
    planted |= plant_groups_and_classes(welds) | plant_bad_photographs(welds)
    manifest = welds.write()
    assert exit_code("audit", "data=manifest", f"data.manifest={manifest}", "output_dir=audit") == 1
    found = found_in(here / "audit")
    # These show the extremes of the whole set: the smallest one, and those that were planted first and last.
    by_kind = {each[0]: each for each in found}
    size, order, tiny = (by_kind[kind] for kind in ("size_predicts_class", "order_predicts_class", "tiny"))
    assert len(size[2]) == len(order[2]) == 6
    assert tiny[2] < size[2]
    assert found == planted | {size, order}
    assert {kind for kind, *_ in found} == set(KINDS) - {
        "no_groups",
        "same_view",
        "alike_names",
        "split_names",
        "unread_format",
        "label_error",
        "blurred",
        "look_predicts_class",
        "look_predicts_split",
        "order_predicts_split",
    }


def test_warnings_alone_exit_with_0(here: Path) -> None:
    write_welds(here / "photos", seams=range(8))
    shutil.copy(here / "photos" / "crack" / "seam0_0.jpg", here / "photos" / "crack" / "seam0_9.jpg")
    assert exit_code("audit", "data=folder", "data.root=photos", "output_dir=a", r"data.group_pattern=seam\d+") == 0
    copies = [here / "photos" / "crack" / f"seam0_{shot}.jpg" for shot in (0, 9)]
    # The drawn classes differ in brightness.
    looks = {found for found in found_in(here / "a") if found[0] == "look_predicts_class"}
    assert found_in(here / "a") == {expect("exact_duplicate", "warning", *copies), *looks}
    assert exit_code("audit", "data=folder", "data.root=photos", "output_dir=b") == 0
    found = {expect("exact_duplicate", "warning", *copies), expect("no_groups", "warning")}
    assert {each for each in found_in(here / "b") if each[0] != "look_predicts_class"} == found
    assert read(here / "b")["splits"] == {}


def test_one_class_is_an_error(here: Path) -> None:
    write_welds(here / "photos", ("crack",), seams=range(4))
    assert exit_code("audit", "data.root=photos", "output_dir=a", "data.groups=per_image") == 1
    ((kind, severity, _),) = found_in(here / "a")
    assert (kind, severity) == ("small_class", "error")


def test_files_that_are_all_unreadable(here: Path) -> None:
    for label in ("crack", "pore"):
        (here / "photos" / label).mkdir(parents=True)
        (here / "photos" / label / "a.png").touch()
    assert exit_code("audit", "data.root=photos", "output_dir=a") == 1
    kinds = {kind for kind, *_ in found_in(here / "a")}
    assert kinds == {"unreadable", "no_groups"}


def test_the_window_of_the_training_is_the_one_of_the_audit(here: Path) -> None:
    for number in range(12):
        file = here / "photos" / ("crack", "pore")[number % 2] / f"seam{number // 2}_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_noise(40, 30, number)[..., 0].astype(np.uint16) * 16).save(file)
    assert exit_code("audit", "data.root=photos", "output_dir=a", r"data.group_pattern=seam\d+") == 0
    (finding,) = read(here / "a")["findings"]
    assert (finding["kind"], finding["severity"], len(finding["paths"])) == ("bit_depth", "warning", 12)
    typed = finding["detail"].split("type ")[1]
    assert typed == "data.window=[0,4095]"
    assert exit_code("audit", "data.root=photos", "output_dir=b", r"data.group_pattern=seam\d+", typed) == 0
    assert found_in(here / "b") == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=nowhere"], "no folder"),
        (["data=manifest"], "data.manifest"),
        (["data=from_checkpoint"], "data=from_checkpoint: allowed are folder, manifest, synthetic"),
        (["data.root=photos", "audit.sugest_split=a.csv"], "audit.suggest_split"),
        (["data.root=photos", "audit.suggest_split=a.csv"], "data.group_pattern"),
        (["data.root=photos", "data.groups=per_image", "audit.suggest_split=there.csv"], "nothing is overwritten"),
        (["data.root=photos", "data.groups=per_image", "audit.suggest_split=no/where/a.csv"], "is no folder"),
        (["data.root=photos", "audit.suggest_groups=there.csv"], "audit.suggest_groups=there.csv exists"),
        (["data.root=photos", "output_dir=photos"], "not empty"),
        (["data.root=photos", "output_dir=photos/audit"], "lies in the source"),
        (["data.root=photos", "audit.corrected=a.csv"], "type audit.reviewed=FILE.csv, too"),
        (["data.root=photos", "audit.reviewed=b.csv", "audit.corrected=there.csv"], "nothing is overwritten"),
        (["data.root=photos", "audit.reviewed=b.csv"], "no such file; type the list review.csv that an audit wrote"),
        (["data.root=photos", "audit.reviewed=there.csv"], "no column path and no column label"),
        (
            ["data.root=photos", "data.groups=per_image", "audit.suggest_split=a.csv", "data.shares.val=3"],
            "data.shares",
        ),
        (["trainer.max_epochs=3"], "no such key"),
    ],
)
def test_bad_use(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    write_welds(here / "photos")
    (here / "there.csv").write_text("mine")
    assert exit_code("audit", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(file.name for file in here.iterdir()) == ["photos", "there.csv"]
    assert (here / "there.csv").read_text() == "mine"


def test_the_suggested_split_has_no_leak_and_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    welds = Welds(here)
    plant_copies(welds)
    plant_near_copies(welds)
    plant_views(welds)
    leak = [welds.draw("crack", "leak", split) for split in ("train", "test")]
    welds.add("crack", "seam5", "train").touch()
    manifest = welds.write()
    arguments = ["data=manifest", f"data.manifest={manifest}", "audit.suggest_split=split (1).csv", "output_dir=a"]
    assert exit_code("audit", *arguments) == 1
    printed = capsys.readouterr().out
    assert "without 1 file, unreadable or damaged" in printed
    assert "data=manifest data.manifest='split (1).csv'" in printed
    table = read_manifest(here / "split (1).csv")
    assert len(table) == len(welds.rows) - 1
    assert set(table["path"]) >= set(map(str, leak))

    again = ["data=manifest", "data.manifest=split (1).csv", "output_dir=b"]
    exit_code("audit", *again)
    kinds = {kind for kind, *_ in found_in(here / "b")}
    assert kinds <= {"exact_duplicate", "near_duplicate", "cross_label_duplicate", "cross_label_view"}
    data = WeldDataModule(Manifest(manifest=str(here / "split (1).csv")), geometry=Geometry(20, 20), seed=0)
    data.setup()
    assert data.splits() == ["train", "val", "test"]


def test_what_could_be_the_welds_is_listed_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_welds(here / "photos")
    assert exit_code("audit", "photos") == 0
    printed = capsys.readouterr().out
    assert printed.count("data.group_by=prefix:1") == 1
    assert printed.count("would measure memory. Type one of the keys above\n") == 2, "train and crossval"


def test_a_split_of_too_few_groups_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_welds(here / "photos", seams=range(2), shots=4)
    arguments = ["data.root=photos", r"data.group_pattern=seam\d+", "audit.suggest_split=split.csv"]
    assert exit_code("audit", *arguments) == 2
    printed = capsys.readouterr()
    assert "writes nothing that weldnet-train would refuse: no image in val" in printed.err
    assert "train on it by" not in printed.out
    assert not (here / "split.csv").exists()
    # The same words as those of the command itself.
    (run,) = (here / "runs" / "audit").iterdir()
    refusals = json.loads((run / "audit.json").read_text())["refusals"]
    for command in ("train", "crossval"):
        assert f"weldnet-{command} would refuse these data: {refusals[command]}\n" in printed.out
        assert exit_code(command, "data=folder", *arguments[:2]) == 2
        assert f"weldnet-{command}: {refusals[command]}\n" in capsys.readouterr().err
    assert exit_code("audit", *arguments[:2], "data.val=known", "audit.suggest_split=known.csv") == 0
    printed = capsys.readouterr()
    assert "data.manifest=known.csv data.val=known\n" in printed.out
    assert "weldnet-train takes these data\n" in printed.out
    assert set(read_manifest(here / "known.csv")["split"]) == {"train", "test"}
