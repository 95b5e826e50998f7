"""scripts/study.py: cells are shared, measured once and measured rightly; the rule, and the seal of the tests."""

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import study
import study_cells
from calling import call
from drawing import SEAM, write_welds
from fork_server import ForkServer
from sklearn.metrics import balanced_accuracy_score
from study_table import Row, choose
from training_runs import quiet

from weldnet.errors import InputError, MemoryShortageError
from weldnet.evaluation.metrics import cross_entropy

pytestmark = pytest.mark.usefixtures("undrawn")

SCRIPTS = Path(__file__).parent.parent / "scripts"

TABLE = """
baseline: origin
rounds:
  screening:
    common: &common
      - experiment=origin
      - model=timm
      - model.backbone=test_resnet
      - model.weights=none
      - trainer=cpu
      - trainer.max_epochs=1
      - data.image_size.height=32
      - data.image_size.width=16
      - data.batch_size=4
    sets:
      drawn: &drawn {data: [data=synthetic, data.num_images=72, data.num_seams=12]}
      folded: {data: [data=synthetic, data.num_images=72, data.num_seams=12], num_folds: 3, folds: [0, 1]}
      given: {data: [data=manifest], split: val, chooses: false}
    baseline_seeds: [0, 1]
  score:
    common: *common
    sets:
      drawn: {data: [data=synthetic, data.num_images=72, data.num_seams=12], split_seed: 1, seeds: [1]}
recipes:
  origin: []
  long: [[trainer.max_epochs=3, callbacks=auto], trainer.max_epochs=4]
  wild: [optimizer=sgd, optimizer.lr=1e6]
"""
"""`wild` diverges at once."""


def write_table(folder: Path, text: str = TABLE) -> Path:
    (folder / "table.yaml").write_text(text)
    return folder / "table.yaml"


def read_cells(output: Path) -> dict[Path, dict[str, Any]]:
    return {file.parent: json.loads(file.read_text()) for file in sorted(output.glob("cells/*/cell.json"))}


def is_of(result: dict[str, Any], recipe: str, name: str, seed: int) -> bool:
    return (result["recipe"], result["set"], result["seed"]) == (recipe, name, seed)


WHERE = ["--study", "table.yaml", "--output", "out"]
"""What a command of `run` types in its own folder."""


def run(folder: Path, *arguments: str) -> int:
    return study.main(["--study", str(folder / "table.yaml"), "--output", str(folder / "out"), *arguments])


@pytest.fixture(scope="module")
def studied(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with `table.yaml` and the output `out` of two commands at once, three processes; what they printed."""
    folder = tmp_path_factory.mktemp("study")
    write_table(folder)
    with ExitStack() as stack:
        both = [
            stack.enter_context(forks.start(folder, "study", *typed, limit_s=600))
            for typed in (WHERE, [*WHERE, "--workers", "2"])
        ]
        ends = [process.wait() for process in both]
    assert [done.code for done in ends] == [0, 0], ends
    return folder, [done.out for done in ends]


@pytest.mark.slow
def test_two_processes_share_the_cells(studied: tuple[Path, list[str]]) -> None:
    folder, printed = studied
    cells = read_cells(folder / "out")
    assert len(cells) == 12
    assert {result["recipe"] for result in cells.values() if "error" in result} == {"wild"}
    assert sum("error" in result for result in cells.values()) == 3
    # Workers of one command print into one another's lines.
    assert sum(text.count("balanced accuracy 0.") + text.count("balanced accuracy 1.") for text in printed) == 9, (
        "each cell is trained by one of them"
    )
    assert "given is left out" in printed[0]
    assert not list((folder / "out").rglob("*.ckpt"))


@pytest.mark.slow
@quiet
def test_a_cell_is_what_weldnet_train_measures(
    studied: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = studied
    monkeypatch.chdir(tmp_path)
    for recipe in ("origin", "long"):
        result = next(
            each
            for each in read_cells(folder / "out").values()
            if (each["recipe"], each["set"], each["fold"]) == (recipe, "folded", 1)
        )
        typed = result["command"].split()[1:]
        call("train", *typed, f"output_dir={recipe}", "logger.tensorboard=null")
        metrics = json.loads((tmp_path / recipe / "metrics.json").read_text())
        for key in ("balanced_accuracy", "accuracy", "loss", "num_images"):
            assert metrics[key] == pytest.approx(result[key], abs=1e-6), key


@pytest.mark.slow
def test_the_table_is_right(studied: tuple[Path, list[str]]) -> None:
    folder, _ = studied
    cells = read_cells(folder / "out")
    rows = {row["recipe"]: row for row in json.loads((folder / "out" / "screening.json").read_text())["recipes"]}
    figures: dict[tuple[str, str], list[float]] = {}
    for recipe, seeds in (("origin", [0, 1]), ("long", [0])):
        for name in ("drawn", "folded"):
            worth, losses = rows[recipe]["sets"][name], []
            for seed in seeds:
                own = [each for each in cells if is_of(cells[each], recipe, name, seed)]
                classes = cells[own[0]]["classes"]
                table = pl.concat([pl.read_parquet(each / "predictions.parquet") for each in own])
                labels = table["label"].cast(pl.Enum(classes)).to_physical().to_numpy().astype(int)
                logits = table["logits"].to_numpy()
                figures.setdefault((recipe, name), []).append(balanced_accuracy_score(labels, logits.argmax(1)))
                losses.append(cross_entropy(logits, labels).mean())
                assert worth["num_images"] == len(labels)
            assert worth["balanced_accuracy"] == pytest.approx(np.mean(figures[recipe, name]))
            assert worth["loss"] == pytest.approx(np.mean(losses))
            assert worth["seeds"] == seeds
    assert rows["long"]["sets"]["drawn"]["spread"] is None
    before, after = (
        {name: np.mean(figures[recipe, name]) for name in ("drawn", "folded")} for recipe in ("origin", "long")
    )
    gains = [(after[name] - before[name]) / (1 - before[name]) for name in before]
    assert rows["long"]["gain"] == pytest.approx(np.mean(gains))
    assert rows["origin"]["gain"] == 0
    assert rows["wild"]["gain"] is None
    assert len(rows["wild"]["failures"]) == 3
    spreads = {name: np.std(figures["origin", name], ddof=1) for name in before}
    assert rows["origin"]["sets"]["folded"]["spread"] == pytest.approx(spreads["folded"])
    chance = np.mean([spreads[name] / (1 - before[name]) for name in before])
    mine, theirs = (
        sum(each["training_s"] for each in cells.values() if (each["recipe"], each["seed"]) == (name, 0))
        for name in ("long", "origin")
    )
    assert rows["long"]["in_all"] == pytest.approx(mine / theirs)
    markdown = (folder / "out" / "screening.md").read_text()
    assert f"{after['folded']:.3f}" in markdown
    assert f"over its own seeds is a gain of {chance:.2f}" in markdown
    assert "Not measured: wild, drawn, seed 0: " in markdown


@pytest.mark.slow
@quiet
def test_a_study_resumes_with_what_is_missing(
    studied: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = studied
    before = {cell: (cell / "cell.json").stat().st_mtime_ns for cell in read_cells(folder / "out")}
    lost = next(cell for cell in before if cell.name.startswith("long-drawn"))
    figure = json.loads((lost / "cell.json").read_text())["loss"]
    (lost / "cell.json").unlink()
    (lost / "checkpoints").mkdir()
    (lost / "checkpoints" / "best.ckpt").write_bytes(b"half")
    assert run(folder, "--plan") == 0
    assert "11 of 12 cells" in capsys.readouterr().out
    assert not (lost / "cell.json").exists()
    assert run(folder, "--hours", "0") == 0
    assert "would take more than the 0:00:00" in capsys.readouterr().out
    assert run(folder) == 0
    after = {cell: (cell / "cell.json").stat().st_mtime_ns for cell in read_cells(folder / "out")}
    assert [cell for cell in before if after[cell] != before[cell]] == [lost]
    assert json.loads((lost / "cell.json").read_text())["loss"] == pytest.approx(figure, rel=1e-6)
    assert not (lost / "checkpoints").exists()


@pytest.mark.slow
@quiet
def test_the_tests_are_scored_once(
    studied: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What it adds to the output is for no other test.
    folder = Path(shutil.copytree(studied[0], tmp_path / "study"))
    assert run(folder, "--round", "score") == 2
    assert "--score RECIPE" in capsys.readouterr().err
    assert run(folder, "--score", "long") == 0
    assert "Scoring number 1" in (folder / "out" / "score.md").read_text()
    assert len(read_cells(folder / "out")) == 12 + 2
    for recipe in ("long", "wild"):
        assert run(folder, "--score", recipe) == 2
        assert "were scored on" in capsys.readouterr().err
    began = time.time()
    assert run(folder, "--score", "long", "--again") == 0
    assert "Scoring number 2" in (folder / "out" / "score.md").read_text()
    assert all((cell / "cell.json").stat().st_mtime < began for cell in read_cells(folder / "out"))


def test_a_stopped_scoring_is_resumed_by_its_own_recipe_alone(tmp_path: Path) -> None:
    study.seal(tmp_path, {"recipe": "calm"}, again=False)
    study.seal(tmp_path, {"recipe": "calm"}, again=False)
    with pytest.raises(InputError, match=r"were scored on .* with calm"):
        study.seal(tmp_path, {"recipe": "wild"}, again=False)
    study.complete_seal(tmp_path)
    with pytest.raises(InputError, match="--again"):
        study.seal(tmp_path, {"recipe": "calm"}, again=False)
    study.seal(tmp_path, {"recipe": "calm"}, again=True)
    assert len(json.loads((tmp_path / "scorings.json").read_text())) == 2


def make_cell(folder: Path, recipe: str) -> study_cells.Cell:
    return study_cells.Cell("screening", recipe, "drawn", None, 0, (), "test", 1, 1.0, 1.0, folder / recipe)


@pytest.mark.parametrize("fault", [OSError("the disk is full"), MemoryShortageError("the batch needs 9 GB")])
def test_what_hinders_one_cell_leaves_the_others_and_is_named(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(cell: study_cells.Cell, times: Any) -> Any:
        raise fault if cell.recipe == "long" else InputError("it diverged")

    monkeypatch.setattr(study_cells, "_train", train)
    monkeypatch.setattr(study, "time_operations", lambda cell: 1e-9)
    cells = [make_cell(tmp_path, recipe) for recipe in ("long", "origin")]
    with pytest.raises(SystemExit, match="not measured: long, drawn, seed 0; the same command tries again"):
        study.share_round(cells, study.Budget(cells, None), 1)
    assert [cell.read() is None for cell in cells] == [True, False], "tried again, and a result of the recipe"
    rounds = {"screening": study_cells.Round(common=[], sets={})}
    table = study_cells.Study(baseline="origin", rounds=rounds, recipes={})
    notes = study.describe_table(table, "screening", [], cells, [row("origin", 0.0)], tmp_path)
    assert "Not measured yet: long, drawn, seed 0." in notes
    notes = study.describe_table(table, "screening", [], cells[:1], [row("origin", 0.0)], tmp_path)
    assert notes[-1] == "Not measured yet: long, drawn, seed 0.", "no commit has measured anything"


def test_an_interruption_ends_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(cell: study_cells.Cell) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_cell", interrupt)
    monkeypatch.setattr(study, "time_operations", lambda cell: 1e-9)
    cells = [make_cell(tmp_path, "origin")]
    with pytest.raises(KeyboardInterrupt):
        study.share_round(cells, study.Budget(cells, None), 1)


def row(recipe: str, gain: float | None, per_epoch: float = 1.0, in_all: float = 1.0, failure: str = "") -> Row:
    return Row(recipe, [], {}, gain, per_epoch, in_all, [failure] if failure else [])


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([], "origin"),
        ([row("better", 0.1)], "better"),
        ([row("hardly", 0.019, in_all=2.0)], "origin"),
        ([row("better", 0.1), row("dearer", 0.115, in_all=1.5)], "better"),
        ([row("better", 0.1), row("best", 0.13, in_all=1.5)], "best"),
        ([row("slow", 0.5, per_epoch=2.1, in_all=2.1)], "origin"),
        ([row("long", 0.5, in_all=4.1)], "origin"),
        ([row("broken", 0.5, failure="diverged")], "origin"),
        ([row("incomplete", None)], "origin"),
    ],
)
def test_the_rule(others: list[Row], chosen: str) -> None:
    found = choose([row("origin", 0.0), *others])
    assert found is not None
    assert found.recipe == chosen


def test_nothing_is_chosen_before_anything_is_measured() -> None:
    assert choose([row("origin", None)]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baseline: origin", "baseline: orign"), "did you mean 'origin'"),
        (("split: val", "split: tset"), "rounds.screening.sets.given.split"),
        (("chooses: false", "choose: false"), "rounds.screening.sets.given.choose"),
        (("recipes:", "recipes: ["), "is no YAML"),
    ],
)
def test_a_wrong_table_is_refused(
    change: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, TABLE.replace(*change))
    assert run(tmp_path) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--round", "screning"], "did you mean 'screening'"),
        (["--recipes", "lon"], "did you mean 'long'"),
        (["--manifest", "given=nowhere.csv"], "no file nowhere.csv"),
        (["--manifest", "welds=nowhere.csv"], "allowed are drawn, folded, given"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path)
    assert run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_override_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, TABLE.replace("callbacks=auto", "optimizer.momentum=2"))
    assert run(tmp_path) == 2
    assert "optimizer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_splits_are_fixed_and_a_set_of_validation_holds_no_test_image(tmp_path: Path) -> None:
    manifest, file = write_manifest_of_welds(tmp_path), tmp_path / "sets" / "welds.csv"
    for split, kept in (("test", {"train", "val", "test"}), ("val", {"train", "val"})):
        file.unlink(missing_ok=True)
        entry = {"data": ["data=manifest", f"data.group_pattern={SEAM}"], "split": split}
        images = study_cells.ImageSet.model_validate(entry)
        study_cells.split_images(file, images, None, manifest, tmp_path)
        assert set(pl.read_csv(file)["split"]) == kept
    before = file.read_bytes()
    study_cells.split_images(file, images, None, manifest, tmp_path)
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]))
    with pytest.raises(InputError, match="no longer those of"):
        study_cells.split_images(file, images, None, manifest, tmp_path)
    assert file.read_bytes() == before


def test_the_chosen_recipe_is_experiment_scratch() -> None:
    shipped = study_cells.read_study(SCRIPTS / "study.yaml")
    chosen = study_cells.merge(shipped.rounds["score"].common, shipped.recipes["weld_fast"])
    assert study_cells.compose(chosen) == study_cells.compose(["experiment=scratch"])


def write_manifest_of_welds(folder: Path) -> Path:
    write_welds(folder / "welds", seams=range(12))
    files = sorted((folder / "welds").rglob("*.jpg"))
    lines = [f"{file},{file.parent.name}" for file in files]
    (folder / "welds.csv").write_text("\n".join(["path,label", *lines]))
    return folder / "welds.csv"


@pytest.mark.slow
def test_every_recipe_of_the_study_is_one_of_weldnet_train() -> None:
    """What a round has in common does not depend on the recipe."""
    shipped = study_cells.read_study(SCRIPTS / "study.yaml")
    first, *others = shipped.rounds.values()
    pairs = [(first, own) for own in shipped.recipes.values()]
    for part, own in pairs + [(part, shipped.recipes[shipped.baseline]) for part in others]:
        study_cells.check_recipe(study_cells.merge(part.common, own))
