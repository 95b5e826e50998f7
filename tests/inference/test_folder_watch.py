"""A watched folder: each photograph judged once, in the same files as of predict, over restarts and kills."""

import io
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from brightness import FACTS, BrightnessEngine, other_digest
from damaging import break_sum
from drawing import save_image
from filelock import FileLock
from PIL import Image
from serving import paint

from weldnet.data.sources.arrivals import PATIENCE
from weldnet.errors import InputError
from weldnet.inference.folder_watch import FolderWatch, Watched
from weldnet.inference.prediction_files import write_table
from weldnet.inference.prediction_run import predict_into
from weldnet.inference.predictor import Predictor
from weldnet.inference.settings import NotifySettings

QUIET = NotifySettings()


def encode(brightness: int) -> bytes:
    """A JPEG of one brightness, of more bytes than a write has."""
    pixels = np.random.default_rng(brightness).normal(brightness, 5, (120, 90, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


class Place:
    """A watched folder `photos`, its predictions in `out`, and steps of a watch from outside."""

    def __init__(self, home: Path) -> None:
        self.photos, self.out = home / "photos", home / "out"
        self.photos.mkdir()
        self.out.mkdir()

    def step(
        self,
        times: int = 2,
        notify: NotifySettings = QUIET,
        engine: BrightnessEngine | None = None,
        *,
        hands_all_on: bool = True,
        **settings: Any,
    ) -> int:
        """A watch that starts, looks some times and ends; how many images it scored."""
        engine = engine or BrightnessEngine()
        with (
            Predictor(engine, 1) as predictor,
            FolderWatch(self.out, predictor, str(self.photos), notify, **settings) as watch,
        ):
            for _ in range(times):
                watch.step(threading.Event())
            for call in watch.notifier.calls if hands_all_on else ():
                call.result()
        return sum(engine.calls)

    def put(self, name: str, content: bytes) -> None:
        (self.photos / name).write_bytes(content)

    def rows(self) -> list[tuple[str, str | None]]:
        """Name and verdict of each row; checks that the CSV has the same."""
        lines = [json.loads(line) for line in (self.out / "predictions.jsonl").read_text().splitlines()]
        table = pl.read_csv(self.out / "predictions.csv", infer_schema_length=None)
        assert table.select("path", "verdict", "time").rows() == [(r["path"], r["verdict"], r["time"]) for r in lines]
        whole = (self.out / "predictions.csv").read_bytes()
        write_table(self.out, FACTS.classes, ())
        assert (self.out / "predictions.csv").read_bytes() == whole, "appended rows are as those that predict writes"
        return [(os.path.relpath(row["path"], self.photos), row["verdict"]) for row in lines]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_growing_file_is_not_judged_and_none_is_judged_twice(place: Place) -> None:
    content = encode(250)
    place.put("whole.jpg", encode(5))
    with (
        Predictor(BrightnessEngine(), 1) as predictor,
        FolderWatch(place.out, predictor, str(place.photos), QUIET) as watch,
    ):
        for end in (10, len(content) // 2, len(content) // 2, len(content) // 2, len(content) - 2, len(content)):
            with (place.photos / "grows.jpg").open("ab") as file:
                file.write(content[file.tell() : end])
            watch.step(threading.Event())
            assert ("grows.jpg", None) not in place.rows()
        watch.step(threading.Event())
        place.put("late.jpg", encode(128))
        for _ in range(3):
            watch.step(threading.Event())
    expected = [("whole.jpg", "reject"), ("grows.jpg", "accept"), ("late.jpg", "refer")]
    assert place.rows() == expected
    assert place.step(5) == 0
    assert place.rows() == expected


def test_what_cannot_be_read_gets_its_row_in_the_end(place: Place) -> None:
    place.put("damaged.png", break_sum(paint(250), b"IDAT"))
    place.put("half.jpg", encode(250)[:2000])
    place.put("none.png", b"no image")
    place.step(PATIENCE - 1)
    assert place.rows() == []
    place.step(PATIENCE)
    assert dict(place.rows()) == {"damaged.png": "refer", "half.jpg": None, "none.png": None}
    place.step(PATIENCE)
    assert len(place.rows()) == 3, "the same bytes are not reported again"
    place.put("none.png", encode(250))
    place.step()
    assert place.rows()[3:] == [("none.png", "accept")]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_file_written_again_is_judged_again(place: Place, restarts: bool) -> None:
    place.put("a.jpg", encode(250))
    place.step()
    with (
        Predictor(BrightnessEngine(), 1) as predictor,
        FolderWatch(place.out, predictor, str(place.photos), QUIET) as watch,
    ):
        watch.step(threading.Event())
        place.put("a.jpg", encode(250))
        for _ in range(2):
            watch.step(threading.Event())
        assert place.rows() == [("a.jpg", "accept")], "the same content is the same photograph"
        place.put("a.jpg", encode(5))
        if not restarts:
            for _ in range(2):
                watch.step(threading.Event())
    if restarts:
        place.step()
    assert place.rows() == [("a.jpg", "accept"), ("a.jpg", "reject")]


def test_a_file_that_changes_while_it_is_read_is_not_judged(place: Place) -> None:
    class Rewriting(BrightnessEngine):
        def score(self, images: Any) -> Any:
            place.put("a.jpg", encode(5 + len(self.calls)))
            return super().score(images)

    place.put("a.jpg", encode(250))
    assert place.step(2, engine=Rewriting()) == 1
    assert place.rows() == []


@pytest.mark.parametrize("cut", ["predictions.jsonl", "predictions.csv", "both"])
def test_a_half_written_row_is_mended(place: Place, cut: str) -> None:
    for number in range(3):
        place.put(f"{number}.jpg", encode(100 * number))
    place.step()
    before = place.rows()
    for name in ("predictions.jsonl", "predictions.csv"):
        if cut in (name, "both"):
            (place.out / name).write_bytes((place.out / name).read_bytes()[:-30])
    assert place.step() == (0 if cut == "predictions.csv" else 1)
    assert place.rows() == before


def test_a_watch_resumes_what_predict_began_and_the_other_way_round(place: Place) -> None:
    place.put("a.jpg", encode(250))
    with Predictor(BrightnessEngine(), 1) as predictor:
        predict_into(place.out, predictor, [str(place.photos / "a.jpg")], str(place.photos))
        assert place.step() == 0
        place.put("a.jpg", encode(5))
        assert place.step() == 1
        predict_into(place.out, predictor, [str(place.photos / "a.jpg")], str(place.photos))
    assert place.rows() == [("a.jpg", "accept"), ("a.jpg", "reject")]


def test_a_drive_that_is_mounted_after_the_start_is_judged_once(place: Place) -> None:
    place.put("a.jpg", encode(250))
    place.step()
    mounted = place.photos.rename(place.photos.with_name("mounted"))
    place.photos.mkdir()
    with (
        Predictor(BrightnessEngine(), 1) as predictor,
        FolderWatch(place.out, predictor, str(place.photos), QUIET) as watch,
    ):
        place.photos.rmdir()
        mounted.rename(place.photos)
        place.put("b.jpg", encode(5))
        watch.arrivals.device = -1
        for _ in range(3):
            watch.step(threading.Event())
        assert not watch.arrivals.waiting
    assert place.rows() == [("a.jpg", "accept"), ("b.jpg", "reject")]


def test_a_folder_belongs_to_one_watch_and_one_model(place: Place) -> None:
    place.step()
    with FileLock(place.out / ".lock"), pytest.raises(InputError, match="another command is at work"):
        place.step()
    with pytest.raises(InputError, match="a different model"):
        place.step(engine=BrightnessEngine(other_digest()))
    place.step()


def test_copies_by_verdict(place: Place, tmp_path: Path) -> None:
    (tmp_path / "sorted").mkdir()
    place.put("a.jpg", encode(250))
    place.step(sort_into=tmp_path / "sorted")
    assert (tmp_path / "sorted" / "accept" / "a.jpg").read_bytes() == encode(250)


NOTE = "import sys; open('{}', 'a').write(sys.stdin.read() + '\\n')"


def heard(place: Place, file: Path) -> list[tuple[str, str | None]]:
    """Name and verdict of what a command was given."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    rows = [json.loads(line) for line in (place.out / "predictions.jsonl").read_text().splitlines()]
    assert all(line in rows for line in lines)
    return [(os.path.relpath(line["path"], place.photos), line["verdict"]) for line in lines]


def test_each_verdict_is_handed_on_in_order_even_after_a_kill(place: Place, tmp_path: Path) -> None:
    notify = NotifySettings([sys.executable, "-c", NOTE.format(tmp_path / "heard")])
    for number in range(4):
        save_image(place.photos / f"{number}.png", np.full((8, 4, 3), 80 * number, np.uint8))
    place.step(notify=notify, hands_all_on=False)
    assert len(heard(place, tmp_path / "heard")) < 4
    place.step(0, notify=notify)
    assert heard(place, tmp_path / "heard") == place.rows()
    calls = place.out / "calls.jsonl"
    # As if killed after the second call, within its line.
    calls.write_bytes(b"".join(calls.read_bytes().splitlines(keepends=True)[:2])[:-9])
    place.step(0, notify=notify)
    assert heard(place, tmp_path / "heard")[4:] == place.rows()[1:]
    place.step(0, notify=notify)
    assert len(heard(place, tmp_path / "heard")) == 7


def test_a_kill_before_the_first_call_loses_none(place: Place, tmp_path: Path) -> None:
    notify = NotifySettings([sys.executable, "-c", NOTE.format(tmp_path / "heard")])
    place.step(0, notify=notify)
    place.put("a.jpg", encode(250))
    # As if killed after the row: this watch has no command.
    place.step()
    place.step(0, notify=notify)
    assert heard(place, tmp_path / "heard") == [("a.jpg", "accept")]


def test_rows_from_before_there_was_a_command_are_not_handed_on(place: Place, tmp_path: Path) -> None:
    place.put("a.jpg", encode(250))
    place.step()
    place.put("b.jpg", encode(250))
    place.step(notify=NotifySettings([sys.executable, "-c", NOTE.format(tmp_path / "heard")]))
    assert heard(place, tmp_path / "heard") == [("b.jpg", "accept")]


def test_a_failing_command_stops_nothing_and_its_failures_are_kept(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jpg", "b.jpg"):
        place.put(name, encode(250))
    place.step(notify=NotifySettings([sys.executable, "-c", "import sys; sys.exit('the gate is stuck')"]))
    assert len(place.rows()) == 2
    calls = [json.loads(line) for line in (place.out / "calls.jsonl").read_text().splitlines()]
    assert [call["error"] for call in calls] == ["exit code 1: the gate is stuck"] * 2
    assert caplog.text.count("was not passed on: exit code 1: the gate is stuck") == 2


def test_a_stop_ends_after_the_photograph_under_way(place: Place) -> None:
    for number in range(3):
        place.put(f"{number}.jpg", encode(100 * number))
    stop = threading.Event()

    class Stopping(BrightnessEngine):
        def score(self, images: Any) -> Any:
            stop.set()
            return super().score(images)

    engine = Stopping()
    with Predictor(engine, 1) as predictor:
        predictor.batch_size = 1
        with FolderWatch(place.out, predictor, str(place.photos), QUIET) as watch:
            watched: Watched = watch.run(stop, 0.01)
    assert sum(watched.outcome.verdicts.values()) == len(place.rows()) == 1
    assert watched.incomplete == [str(place.photos / f"{number}.jpg") for number in (1, 2)]


def test_the_pause_does_not_grow_with_the_judging(place: Place) -> None:
    place.put("a.jpg", encode(250))

    class Slow(BrightnessEngine):
        def score(self, images: Any) -> Any:
            time.sleep(1.0)
            return super().score(images)

    with (
        Predictor(Slow(), 1) as predictor,
        FolderWatch(place.out, predictor, str(place.photos), QUIET) as watch,
    ):
        assert max(watch.step(threading.Event()) for _ in range(2)) < 1.0
    assert len(place.rows()) == 1
