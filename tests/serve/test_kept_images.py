"""The photographs of reviewed decisions: bounded, named by nobody else, and a manifest of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from calling import call, refuse
from serving import CONTENT_TYPE, FACTS, LIMITS, Client, add_text, make_body, paint

from weldnet.data.sources.manifest import read_manifest
from weldnet.errors import InputError
from weldnet.inference.predictor import Predictor
from weldnet.serve.app import create_app
from weldnet.serve.kept_images import KeptImages
from weldnet.serve.records import DecisionRecords

Ask = Callable[[Client], Any]


class Place:
    """A server that keeps photographs below `kept`, for as long as each use of it takes."""

    def __init__(self, home: Path, predictor: Predictor) -> None:
        self.home, self.predictor, self.records, self.folder = home, predictor, home / "d.jsonl", home / "kept"
        self.folder.mkdir()

    def use(self, *asked: Ask, max_bytes: float = 1e6) -> None:
        with (
            DecisionRecords(self.records, FACTS) as records,
            KeptImages(self.folder, max_bytes) as images,
            Client(create_app(self.predictor, records, LIMITS, images=images)) as client,
        ):
            for ask in asked:
                assert ask(client).status_code == 200

    def kept(self, name: str) -> list[bytes]:
        return [
            path.read_bytes() for path in sorted((self.folder / name).iterdir(), key=lambda p: p.stat().st_mtime_ns)
        ]


@pytest.fixture
def place(tmp_path: Path, predictor: Predictor) -> Place:
    return Place(tmp_path, predictor)


def predict(request_id: str, *files: tuple[str, bytes], reference: str | None = None) -> Ask:
    body = make_body(*files) if reference is None else add_text(make_body(*files), "reference", reference)
    headers = {"x-request-id": request_id, "content-type": CONTENT_TYPE}
    return lambda client: client.ask("/predict", "POST", body, headers)


def review(request_id: str, file: str, label: str | None, **changes: Any) -> Ask:
    content = {"request_id": request_id, "file": file, "agree": True, "label": label, "name": "Kim"} | changes
    return lambda client: client.ask("/reviews", "POST", json.dumps(content))


def test_what_is_reviewed_stays_also_over_a_restart(place: Place) -> None:
    place.use(predict("r", ("a.png", paint(250)), ("b.png", paint(20)), ("none.png", b"no image")))
    assert sorted(place.kept("recent")) == sorted([paint(250), paint(20)])
    place.use(review("r", "b.png", "pore"), review("r", "b.png", "good"))
    assert (place.kept("recent"), place.kept("reviewed")) == ([paint(250)], [paint(20)])
    (file,) = (place.folder / "reviewed").iterdir()
    assert file.suffix == ".png"


def test_the_oldest_make_room_and_the_reviewed_ones_never(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    shades = [paint(number) for number in range(10, 15)]
    size = max(map(len, shades))
    asked = [predict(f"r{number}", ("a.png", shade)) for number, shade in enumerate(shades)]
    place.use(*asked[:3], max_bytes=2.5 * size)
    assert place.kept("recent") == shades[1:3]
    place.use(review("r0", "a.png", "pore"), review("r1", "a.png", "pore"), asked[3], max_bytes=2.5 * size)
    assert "the photograph of a review is here no longer, and is not kept" in caplog.text
    assert (place.kept("recent"), place.kept("reviewed")) == ([shades[3]], [shades[1]])
    place.use(review("r3", "a.png", "pore"), asked[4], asked[4], max_bytes=2.5 * size)
    assert (place.kept("recent"), place.kept("reviewed")) == ([], [shades[1], shades[3]])
    assert caplog.text.count("bytes of reviewed ones, and is not kept; raise serve.keep_images_mb") == 1


@pytest.mark.parametrize(
    "name", ["../../a.png", "/etc/passwd", "..", "a\0.png", "ä" * 255, "", "CON", "-rf", "a/b.png"]
)
def test_names_and_ids_of_a_client_are_no_paths(place: Place, name: str) -> None:
    before = {*place.home.rglob("*")}
    place.use(predict("../../../r", (name, paint(250))), review("../../../r", name, "good"))
    made = {*place.home.rglob("*")} - before
    inside = {path for path in made if path.parent in (place.folder, place.folder / "reviewed")}
    assert {path.relative_to(place.home).as_posix() for path in made - inside} == {"d.jsonl"}
    assert place.kept("reviewed") == [paint(250)]


def test_one_of_several_is_not_guessed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.use(predict("r", ("a.png", paint(250)), ("a.png", paint(20))), review("r", "a.png", "pore"))
    assert "one of several with this request_id and file" in caplog.text
    assert not place.kept("reviewed")


def test_a_disk_that_refuses_stops_no_verdict(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeptImages, "hold", fail)
    monkeypatch.setattr(KeptImages, "keep", fail)
    place.use(predict("r", ("a.png", paint(250))), review("r", "a.png", "good"))
    assert caplog.text.count("a photograph is not kept (serve.keep_images): [Errno 28]") == 2


def test_a_disk_that_hangs_holds_no_other_request_up(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with (
        DecisionRecords(place.records, FACTS) as records,
        KeptImages(place.folder, 1e6) as images,
        Client(create_app(place.predictor, records, LIMITS, images=images)) as client,
        images.lock,
    ):
        asked = (predict("r", ("a.png", paint(250))), review("r", "a.png", "good"))
        assert [ask(client).status_code for ask in asked] == [200, 200]
    assert caplog.text.count("a photograph is not kept (serve.keep_images): the disk does not answer") == 2
    assert len(place.records.read_text().splitlines()) == 2


def test_a_folder_belongs_to_one_server(place: Place) -> None:
    # In one process only the outermost lock counts; so a different one has it.
    code = "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print(); input()"
    command = [sys.executable, "-uc", code, str(place.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(InputError, match="another command is at work"):
            place.use()
        other.communicate(b"\n")
    with pytest.raises(InputError, match=r"serve\.keep_images_mb=0: allowed are numbers above 0"):
        place.use(max_bytes=0)


def export(place: Place, capsys: pytest.CaptureFixture[str]) -> tuple[list[tuple[str, str | None]], str]:
    """Label and group of the exported rows, which lead to the photographs; and what is printed."""
    file = place.home / "reviews.csv"
    file.unlink(missing_ok=True)
    call("serve", f"export={file}", f"serve.records={place.records}", f"serve.keep_images={place.folder}")
    assert [Path(path).parent for path in read_manifest(file)["path"]] == [place.folder / "reviewed"] * len(
        read_manifest(file)
    )
    return pl.read_csv(file, infer_schema=False).select("label", "group").rows(), capsys.readouterr().out


def test_reviews_become_a_manifest(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shades = [paint(number) for number in range(10, 17)]
    place.use(
        *(predict(f"r{n}", ("a.png", shades[n]), reference=f"part {n // 2}" if n < 5 else None) for n in range(7)),
        review("r0", "a.png", "good"),
        review("r1", "a.png", "good"),
        review("r2", "a.png", "good", reference=" part,\n7"),
        review("r1", "a.png", "pore", agree=False),
        review("r3", "a.png", None),
        review("r5", "a.png", "good", reference=" \t"),
        review("never", "a.png", "good"),
        predict("again", ("b.png", shades[0]), reference="part 0"),
        review("again", "b.png", "pore", agree=False),
    )
    with place.records.open("a") as lines:
        lines.write('{"time": "cut o')
    rows, printed = export(place, capsys)
    assert rows == [("pore", "part 0"), ("good", "part, 7"), ("pore", "part 0")]
    assert "3 photographs (good 1, pore 2) of 2 groups" in printed
    for words in (
        "left out:  1 review whose photograph is not kept",
        "left out:  1 review without a label",
        "left out:  1 review of a photograph that is reviewed again",
        "left out:  1 review without a reference, so of no known weld",
    ):
        assert words in printed


def test_without_any_reference_the_groups_are_left_to_training(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.use(predict("r", ("a.png", paint(250))), review("r", "a.png", "good"))
    rows, printed = export(place, capsys)
    assert rows == [("good", None)]
    assert "type data.group_by to say which weld each photograph shows" in printed


def test_what_an_export_does_not_read_has_no_effect(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.use(predict("r", ("a.png", paint(250))), review("r", "a.png", "good"))
    keys = {"export": place.home / "a.csv", "serve.records": place.records, "serve.keep_images": place.folder}
    unused = {"serve.max_queue": 3, "serve.keep_images_mb": 3, "port": 3}
    call("serve", *(f"{key}={value}" for key, value in (keys | unused).items()))
    named = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert named == {f"{key} has no effect with export" for key in unused}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serve.records": None}, "export needs serve.records=FILE and serve.keep_images=DIR"),
        ({"serve.records": "gone.jsonl"}, "gone.jsonl: no such file or directory"),
        ({"serve.keep_images": "."}, "holds no reviewed photographs"),
        ({"export": "d.jsonl"}, "export=d.jsonl exists, and nothing is overwritten"),
        ({"export": "no/a.csv"}, "is no folder that you may write to"),
        ({}, "holds no review of a photograph"),
    ],
)
def test_exports_refused(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str | None],
    words: str,
) -> None:
    place.use(predict("r", ("a.png", paint(250))))
    monkeypatch.chdir(place.home)
    keys = {"export": "a.csv", "serve.records": "d.jsonl", "serve.keep_images": "kept"} | changes
    assert words in refuse(capsys, "serve", *(f"{key}={value}" for key, value in keys.items() if value))
    assert not (place.home / "a.csv").exists()
