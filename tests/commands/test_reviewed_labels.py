"""Wrong labels: found by a cross-validation, reviewed by a person, corrected in a manifest, through the real mains."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from calling import call, exit_code, refuse
from drawing import SEAM, draw_blobs, save_image, write_welds
from trained import CLASSES, QUIET

from weldnet.audit.labels import correct_labels, list_for_review
from weldnet.data.datamodule import WeldDataModule
from weldnet.data.decode.images import Geometry
from weldnet.data.sources.manifest import read_manifest, write_manifest
from weldnet.data.sources.source import Manifest
from weldnet.inference.checkpoint import RECORD, write_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

WRONG = (3, 20, 41, 58, 77, 90)
DATA = ("data=manifest", "data.manifest=wrong.csv")


def swap(label: str) -> str:
    return CLASSES[1 - CLASSES.index(label)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`welds`, the manifests `right.csv` and `wrong.csv`, and `cv`, the cross-validation of the latter."""
    home = tmp_path_factory.mktemp("home")
    write_welds(home / "welds", CLASSES, seams=range(12), shots=4)
    right = pl.DataFrame(
        [(str(file), file.parent.name, file.stem.split("_")[0], None) for file in sorted(home.glob("welds/*/*"))],
        schema={"path": pl.String, "label": pl.String, "group": pl.String, "split": pl.String},
        orient="row",
    )
    labels = right["label"].to_list()
    for row in WRONG:
        labels[row] = swap(labels[row])
    write_manifest(right, home / "right.csv")
    write_manifest(right.with_columns(label=pl.Series(labels)), home / "wrong.csv")
    recipe = [word for word in QUIET if not word.startswith(("data=", "data.root=", "data.group_pattern="))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("WELDNET_CACHE", str(home / "cache"))
        call("crossval", *recipe, *DATA, "trainer.max_epochs=6", "num_folds=3", "output_dir=cv")
    return home


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with the manifests and a link to the run."""
    monkeypatch.chdir(tmp_path)
    for name in ("right.csv", "wrong.csv"):
        shutil.copy(home / name, tmp_path)
    (tmp_path / "cv").symlink_to(home / "cv")
    return tmp_path


def read(file: Path) -> pl.DataFrame:
    return pl.read_csv(file, infer_schema=False)


@pytest.mark.slow
def test_wrong_labels_are_found_reviewed_and_corrected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = read_manifest("right.csv")
    wrong = set(right["path"].gather(list(WRONG)))
    call("audit", *DATA, "crossval=cv", "output_dir=audit")
    printed = capsys.readouterr().out
    assert "audit.reviewed=audit/review.csv audit.corrected=FILE.csv" in printed
    findings = json.loads((here / "audit" / "audit.json").read_text())["findings"]
    named = [found["paths"][0] for found in findings if found["kind"] == "label_error"]
    assert len(wrong & set(named)) >= 5
    assert len(set(named) - wrong) <= 1
    page = (here / "audit" / "audit.html").read_text()
    assert "Labels that may be wrong" in page
    assert re.search(r"labelled good \(\d+\.\d\s%\), predicted pore \(\d+\.\d\s%\)", page)

    content = (here / "audit" / "review.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfpath,label,predicted,probability,probability_of_label,corrected\n")
    review = read(here / "audit" / "review.csv")
    assert review["path"].to_list() == named
    assert review["corrected"].null_count() == len(review)
    assert review["predicted"].to_list() == [swap(label) for label in review["label"]]
    assert review["probability_of_label"].cast(pl.Float64).is_sorted()

    # What a person knows; Excel separates by semicolons where a comma is the decimal point, and adds empty rows.
    truth = review.select("path").join(right, on="path", maintain_order="left")["label"]
    filled = review.with_columns(corrected=truth).write_csv(separator=";", include_bom=True)
    (here / "filled.csv").write_text(filled + ";;;;;\n")
    call("audit", *DATA, "audit.reviewed=filled.csv", "audit.corrected=new.csv", "output_dir=again")
    printed = capsys.readouterr().out
    num_wrong = len(wrong & set(named))
    assert f"filled.csv: {num_wrong} labels corrected, {len(named) - num_wrong} confirmed, 0 not reviewed" in printed
    assert "train on it by: " in printed
    differs = read_manifest("new.csv").join(right, on=["path", "label", "group"], how="anti")["path"].to_list()
    assert set(differs) == wrong - set(named)
    data = WeldDataModule(Manifest(manifest=str(here / "new.csv")), geometry=Geometry(20, 20), seed=0)
    data.setup()
    assert data.splits() == ["train", "val", "test"]


def rewrite(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    return lambda here: write_manifest(change(read_manifest(here / "wrong.csv")), here / "wrong.csv")


def add_image(here: Path) -> None:
    file = save_image(here / "seam99_0.png", draw_blobs(40, 20, seed=77))
    rewrite(lambda table: pl.concat([table, table[:1].with_columns(path=pl.lit(str(file)))]))(here)


def change_image(here: Path) -> None:
    """Copies the run and the photographs, and saves one of them anew."""
    shutil.copytree((here / "cv").resolve(), here / "copy")
    (here / "cv").unlink()
    (here / "copy").rename(here / "cv")
    table = read_manifest(here / "wrong.csv")
    original = Path(table["path"][0])
    moved = here / original.name
    save_image(moved, draw_blobs(40, 20, seed=78))
    write_manifest(table.with_columns(pl.col("path").replace(str(original), str(moved))), here / "wrong.csv")
    predictions = here / "cv" / "predictions.csv"
    predictions.write_text(predictions.read_text().replace(str(original), str(moved)))


def keep(*names: str) -> Callable[[Path], object]:
    """Leaves only these files of the run."""

    def strip(here: Path) -> None:
        run = (here / "cv").resolve()
        (here / "cv").unlink()
        for name in names:
            (here / "cv" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / name, here / "cv" / name)

    return strip


def damage(here: Path) -> None:
    keep("predictions.csv", "checkpoints/ensemble.ckpt")(here)
    file = here / "cv" / "predictions.csv"
    file.write_text(file.read_text().replace(",pore,", ",,"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda here: (here / "cv").unlink(), "no finished cross-validation in"),
        (keep("predictions.csv", "crossval.json"), "Finish one that was stopped: weldnet-crossval ckpt_path="),
        (damage, "predictions.csv is damaged: a path or a label is empty"),
        (rewrite(lambda table: table[2:]), "crossval: the data lack 2 images of the cross-validation: "),
        (
            rewrite(lambda table: table.with_columns(pl.col("label").reverse())),
            "had a different label in the cross-validation: ",
        ),
        (add_image, "crossval: 1 image of the data not in the cross-validation: "),
        (change_image, "crossval: 1 image changed since the cross-validation: "),
    ],
)
def test_a_run_of_different_data_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], message: str
) -> None:
    change(here)
    assert message in refuse(capsys, "audit", *DATA, "crossval=cv", "output_dir=audit")
    assert not (here / "audit").exists()


@pytest.mark.slow
def test_the_leaks_of_a_run_are_named(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep("predictions.csv", "checkpoints/ensemble.ckpt")(here)
    file = here / "cv" / "checkpoints" / "ensemble.ckpt"
    content = torch.load(file, weights_only=True)
    content[RECORD]["leaks"] = ["1 group in test also in train"]
    write_checkpoint(content, file)
    call("audit", *DATA, "crossval=cv")
    assert "stay hidden then: 1 group in test also in train" in caplog.text


def list_welds(here: Path, *rows: str) -> Any:
    """A reviewed list with these rows, PATH standing for a photograph that is labelled crack."""
    path = str(here / "photos" / "crack" / "seam0_0.jpg")
    (here / "filled.csv").write_text("\n".join(["path,label,corrected", *rows]).replace("PATH", path) + "\n")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["PATH,crack,poer"], "filled.csv row 2: corrected=poer: allowed are crack, pore; did you mean 'pore'?"),
        (["PATH,crack,pore", "PATH,crack,crack"], "one image in more than one row"),
        (["elsewhere.jpg,crack,pore"], "no such image in the data"),
        ([",crack,pore"], "no such image in the data"),
        (["PATH,pore,crack"], "the data have a different label"),
        (["PATH,,crack"], "the data have a different label"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rows: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "photos")
    list_welds(tmp_path, *rows)
    typed = ["data.root=photos", f"data.group_pattern={SEAM}", "audit.reviewed=filled.csv", "audit.corrected=new.csv"]
    assert message in refuse(capsys, "audit", *typed)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["filled.csv", "photos"]


def test_rows_that_nobody_filled_in_keep_their_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_welds(tmp_path / "photos")
    list_welds(tmp_path, "PATH,crack, ", "")
    shared = ["data.root=photos", f"data.group_pattern={SEAM}"]
    both = ["audit.corrected=new.csv", "audit.suggest_groups=new.csv"]
    assert "two of them name one file" in refuse(capsys, "audit", *shared, "audit.reviewed=filled.csv", *both)
    assert exit_code("audit", *shared, "audit.reviewed=filled.csv", "audit.corrected=new.csv") == 0
    assert "filled.csv: 0 labels corrected, 0 confirmed, 1 not reviewed" in capsys.readouterr().out
    assert read_manifest("new.csv")["label"].to_list() == [
        Path(path).parent.name for path in read_manifest("new.csv")["path"]
    ]
    # A list corrects the data of a suggested split as well.
    list_welds(tmp_path, "PATH,crack,pore")
    assert exit_code("audit", *shared, "audit.reviewed=filled.csv", "audit.suggest_groups=groups.csv") == 0
    assert read_manifest("groups.csv")["label"].value_counts().sort("label").rows() == [("crack", 7), ("pore", 9)]


def test_no_class_becomes_a_formula(tmp_path: Path) -> None:
    classes = ["=1+1", "'=1+1", "-", "plain", "'quoted'"]
    doubts = pl.DataFrame(
        {"path": [f"/{number}" for number in range(5)], "label": classes, "predicted": classes[::-1]}
        | dict.fromkeys(("probability", "probability_of_label"), [0.5] * 5)
    )
    listed = list_for_review(doubts)
    assert not listed["label"].str.contains(r"^[=+\-@]").any()
    assert listed["label"][3:].to_list() == classes[3:]
    filled = listed.with_columns(corrected="predicted")
    filled.write_csv(tmp_path / "filled.csv")
    samples = doubts.select("path", "label", group=pl.lit(None), split=pl.lit(None))
    assert correct_labels(samples, tmp_path / "filled.csv")[0]["label"].to_list() == classes[::-1]
