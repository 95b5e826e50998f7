"""Predictions as files: whole, resumed, sorted, of one model only."""

import errno
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from brightness import FACTS, BrightnessEngine, other_digest
from drawing import save_image
from filelock import FileLock

from weldnet.errors import InputError
from weldnet.inference.prediction import name_columns
from weldnet.inference.prediction_files import Outcome, append_rows, gather_rows, read_rows, write_table
from weldnet.inference.prediction_run import check_request, predict_into
from weldnet.inference.predictor import Predictor


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 images from black to white in two folders, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(100):
        save_image(folder / f"line{number % 2}" / f"{number:02d}.png", np.full((8, 4, 3), 2 * number, np.uint8))
    (folder / "line0" / "broken, or not.png").write_text("no image")
    return folder


def predict(photos: Path, folder: Path, engine: BrightnessEngine | None = None, **settings: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    with Predictor(engine or BrightnessEngine(), 2) as predictor:
        predictor.batch_size = 8
        outcome = predict_into(folder, predictor, list_photos(photos), str(photos), **settings)
    assert outcome is not None
    return outcome


def list_photos(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.rglob("*.png"))]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The rows of the JSON lines, without their time; checks that the CSV agrees."""
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    table = pl.read_csv(folder / "predictions.csv")
    assert list(rows[0]) == name_columns(FACTS.classes)
    for cells, row in zip(table.to_dicts(), rows, strict=True):
        assert list(cells)[:4] == ["path", "predicted", "probability", "sha256"]
        assert cells.pop("probability") == (row["predicted"] and row[f"p_{row['predicted']}"])
        assert cells == row | {name: row[name] and row[name][:12] for name in ("sha256", "model_digest")}
        assert all(len(f"{cells[name]:.15g}") <= 9 for name in cells if name.startswith("p_") and not row["error"])
    return [row | {"time": ""} for row in rows]


def test_both_files_say_all_of_it(photos: Path, tmp_path: Path) -> None:
    outcome = predict(photos, tmp_path / "out")
    rows = read_lines(tmp_path / "out")
    assert [row["path"] for row in rows] == list_photos(photos)
    (bad,) = (row for row in rows if row["error"])
    assert bad["path"].endswith("broken, or not.png")
    assert bad["verdict"] is None
    assert outcome.num_unreadable == 1
    assert outcome.unreadable == [f"{bad['path']}: {bad['error']}"]
    counts = Counter((row["predicted"], row["verdict"]) for row in rows if not row["error"])
    assert {(name, verdict): n for name, row in outcome.classes.items() for verdict, n in row.items()} == counts
    assert outcome.unlike_training == 1
    assert sum(outcome.verdicts.values()) == 101
    assert outcome.verdicts["accept"] == sum(row["verdict"] == "accept" for row in rows)
    # The least sure of black to 198 is the middle grey, 128.
    assert Path(outcome.worst[0]).stem == "64"
    assert len(outcome.worst) == 24


@pytest.mark.parametrize("cut", [0, 5])
def test_resumed_equals_uninterrupted(photos: Path, tmp_path: Path, cut: int) -> None:
    predict(photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        predict(photos, tmp_path / "half", BrightnessEngine(fail_after=40))
    lines = tmp_path / "half" / "predictions.jsonl"
    # Killed in the middle of a row.
    lines.write_bytes(lines.read_bytes()[: -cut or None])
    kept = len(list(read_rows(lines)))
    assert 0 < kept < 100
    engine = BrightnessEngine()
    predict(photos, tmp_path / "half", engine)
    unreadable = 1
    assert sum(engine.calls) <= 101 - kept + unreadable
    by_path = {row["path"]: row for row in read_lines(tmp_path / "half")}
    assert len(by_path) == 101
    assert [by_path[row["path"]] for row in read_lines(tmp_path / "whole")] == read_lines(tmp_path / "whole")
    last = BrightnessEngine()
    predict(photos, tmp_path / "half", last)
    assert last.calls == []
    assert len(read_lines(tmp_path / "half")) == 101


def test_what_could_not_be_read_is_tried_again(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    (tmp_path / "out").mkdir()
    for step in range(2):
        with Predictor(BrightnessEngine(), 1) as predictor:
            outcome = predict_into(tmp_path / "out", predictor, [str(path)], str(tmp_path))
        assert outcome is not None
        assert outcome.num_unreadable == 1 - step
        save_image(path, np.full((8, 4, 3), 9, np.uint8))
    assert len(read_lines(tmp_path / "out")) == 1


def test_a_folder_belongs_to_one_model_and_one_run(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    predict(photos, folder)
    before = (folder / "predictions.csv").read_bytes()
    with pytest.raises(InputError, match="a different model"):
        predict(photos, folder, BrightnessEngine(other_digest()))
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="another command is at work"):
        predict(photos, folder)
    (folder / "predictions.jsonl").write_text('{"path": 3}\n')
    with pytest.raises(InputError, match="row 1 is no prediction"):
        predict(photos, folder)
    assert (folder / "predictions.csv").read_bytes() == before
    (folder / "judged_by.json").unlink()
    with pytest.raises(InputError, match=r"no judged_by\.json"):
        predict(photos, folder)


def test_parts_are_merged_in_the_order_of_the_source(photos: Path, tmp_path: Path) -> None:
    paths = list_photos(photos)
    with Predictor(BrightnessEngine(), 1) as predictor:
        for rank in range(12):
            with append_rows(tmp_path / f"predictions.rank{rank}.jsonl") as append:
                for prediction in predictor.predict_files(paths[rank::12]):
                    append(prediction.to_row(FACTS.classes))
    gather_rows(tmp_path)
    write_table(tmp_path, FACTS.classes, ())
    assert [row["path"] for row in read_lines(tmp_path)] == paths
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.csv", "predictions.jsonl"]


def test_parts_of_a_killed_run_are_kept(photos: Path, tmp_path: Path) -> None:
    lost = [str(photos / name) for name in ("lost.png", "found.png")]
    paths = [lost[0], *list_photos(photos)[:19], lost[1]]
    with Predictor(BrightnessEngine(), 1) as predictor:
        for rank in (0, 2):
            with append_rows(tmp_path / f"predictions.rank{rank}.jsonl") as append:
                for prediction in predictor.predict_files(paths[rank::3]):
                    append(prediction.to_row(FACTS.classes))
    readable = {*paths[0::3], *paths[2::3]} - {*lost}
    (tmp_path / "predictions.rank_notes.jsonl").write_text("not ours")
    assert gather_rows(tmp_path, {lost[1], *readable}) == {lost[0], *readable}
    kept = [row["path"] for row in read_rows(tmp_path / "predictions.jsonl")]
    assert sorted(kept) == sorted([lost[0], *readable]), "what is not tried again keeps its row"


def test_copies_by_verdict(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "sorted" / "refer" / "line0").mkdir(parents=True)
    (tmp_path / "sorted" / "refer" / "line0" / ".84.png.tmp").write_text("of a killed run")
    predict(photos, tmp_path / "out", sort_into=tmp_path / "sorted")
    for row in read_lines(tmp_path / "out"):
        copy = tmp_path / "sorted" / (row["verdict"] or "unreadable") / Path(row["path"]).relative_to(photos)
        assert copy.read_bytes() == Path(row["path"]).read_bytes()
    assert len([path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]) == 101


def test_a_folder_belongs_to_one_task(photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    with pytest.raises(InputError, match=r"sort_into \(sort_into=None, not .*sorted\)"):
        predict(photos, tmp_path / "out", sort_into=tmp_path / "sorted")
    (tmp_path / "out" / "predictions.jsonl").write_text('{"path": "/x"}\n')
    with pytest.raises(InputError, match="row 1 is no prediction"):
        predict(photos, tmp_path / "out")


def test_copies_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory: .*file"):
        predict(photos, tmp_path / "out", sort_into=tmp_path / "file")


def test_what_has_no_copy_stops_nothing(tmp_path: Path) -> None:
    """A file that vanished, one that cannot be read, and a name as long as the file system has them."""
    long = save_image(tmp_path / "photos" / f"{'n' * 251}.png", np.full((8, 4, 3), 200, np.uint8))
    paths = [str(tmp_path / "photos" / "gone.png"), "/proc/self/mem", "nul\0.png", str(long)]
    (tmp_path / "out").mkdir()
    with Predictor(BrightnessEngine(), 1) as predictor:
        outcome = predict_into(tmp_path / "out", predictor, paths, "/", sort_into=tmp_path / "sorted")
    assert outcome is not None
    assert outcome.verdicts == {"accept": 1, "unreadable": 3}
    (copy,) = (path for path in (tmp_path / "sorted").rglob("*") if path.is_file())
    assert copy.read_bytes() == long.read_bytes()


def test_a_repaired_file_moves(tmp_path: Path) -> None:
    path, sorted_into = tmp_path / "photos" / "a.png", tmp_path / "sorted"
    path.parent.mkdir()
    path.write_text("no image")
    (tmp_path / "out").mkdir()
    for is_repaired in (False, True):
        with Predictor(BrightnessEngine(), 1) as predictor:
            predict_into(tmp_path / "out", predictor, [str(path)], str(path.parent), sort_into=sorted_into)
        if not is_repaired:
            assert (sorted_into / "unreadable" / "a.png").is_file()
        save_image(path, np.full((8, 4, 3), 250, np.uint8))
    assert [file.relative_to(sorted_into).as_posix() for file in sorted_into.rglob("*.png")] == ["accept/a.png"]


@pytest.mark.parametrize(
    ("explain", "sort_into", "words"),
    [
        ("wurst", None, "did you mean 'worst'"),
        ("none", "full", "not empty"),
        ("none", "full/file", "is a file"),
    ],
)
def test_requests_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explain: str, sort_into: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match=words):
        check_request(explain, None if sort_into is None else tmp_path / sort_into, False)


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left.*predictions\.jsonl") as refused,
        append_rows(tmp_path / "predictions.jsonl") as append,
    ):
        append(dict.fromkeys(name_columns(FACTS.classes)))
    assert refused.value.errno == errno.ENOSPC
