"""Photographs that arrive in a folder: found once they are complete, whatever else happens there."""

import os
from pathlib import Path

import numpy as np
import pytest
from drawing import save_image

from weldnet.data.sources import arrivals
from weldnet.data.sources.arrivals import PATIENCE, Arrivals


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def look(watched: Arrivals) -> list[str]:
    """The names that a look finds; they are taken as they are."""
    found = watched.look()
    for arrival in found:
        watched.take(arrival, "content")
    return [os.path.relpath(arrival.path, watched.folder) for arrival in found]


def write(file: Path, content: bytes = b"content") -> Path:
    """Writes a file in place; its content and its inode change at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_a_file_written_in_place_waits_for_a_second_look(folder: Path) -> None:
    watched = Arrivals(str(folder))
    with (folder / "a.jpg").open("wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"more")
            assert look(watched) == []
    assert look(watched) == ["a.jpg"]
    assert look(watched) == []
    assert not watched.waiting


def test_a_file_renamed_into_place_is_found_at_once(folder: Path) -> None:
    watched = Arrivals(str(folder))
    temporary = write(folder / "a.jpg.part")
    os.utime(temporary, (1e9, 1e9))
    assert look(watched) == []
    temporary.rename(folder / "line 1.jpg")
    assert look(watched) == ["line 1.jpg"]


def test_what_is_not_taken_comes_again_and_for_a_last_time(folder: Path) -> None:
    watched = Arrivals(str(folder))
    write(folder / "a.jpg")
    found = [[arrival.is_last for arrival in watched.look()] for _ in range(PATIENCE + 3)]
    assert found == [[], [False], *[[]] * (PATIENCE - 3), [True], [], [], []]
    assert list(watched.waiting) == [str(folder / "a.jpg")]


def test_a_file_that_changes_or_comes_back_is_found_again(folder: Path) -> None:
    watched = Arrivals(str(folder))
    file = write(folder / "a.jpg")
    looks = [look(watched), look(watched)]
    write(file, b"other content")
    looks += [look(watched), look(watched)]
    file.unlink()
    looks += [look(watched)]
    assert not watched.taken
    write(file)
    looks += [look(watched), look(watched)]
    assert looks == [[], ["a.jpg"], [], ["a.jpg"], [], [], ["a.jpg"]]


def test_only_photographs_below_the_folder_are_found(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = save_image(folder.parent / "outside.png", np.zeros((4, 4, 3), np.uint8))
    for name in ("b/deep/a.jpg", "a.heic", ".hidden.jpg", "@eaDir/a.jpg", ".cache/a.jpg", "a.jpg~", "a.csv", "c.TMP"):
        write(folder / name)
    outside.rename(folder / "no ending")
    (folder / "out.jpg").symlink_to("/etc/hostname")
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    (folder / "in.jpg").symlink_to(folder / "b" / "deep" / "a.jpg")
    (folder / "folder").symlink_to("/etc")
    write(Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")))
    watched = Arrivals(str(folder))
    found = [*look(watched), *look(watched), *look(watched)]
    assert sorted(found) == ["a.heic", "b/deep/a.jpg", "in.jpg", "no ending"]
    assert caplog.text.count("a symbolic link that leaves") == caplog.text.count("not UTF-8") == 1


def test_a_folder_that_is_away_is_forgotten_only_once_it_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "a.jpg")
    watched = Arrivals(str(folder))
    assert [look(watched), look(watched)] == [[], ["a.jpg"]]
    away = folder.rename(folder.with_name("away"))
    assert [look(watched), look(watched)] == [[], []]
    assert caplog.text.count("no such file or directory; looking again") == 1
    away.rename(folder)
    assert look(watched) == []
    # As where a drive is not mounted: the folder is there, and empty.
    away = folder.rename(away)
    folder.mkdir()
    monkeypatch.setattr(watched, "device", -1)
    assert look(watched) == []
    assert "a different drive is there, without a file; looking again" in caplog.text
    assert list(watched.taken) == [str(folder / "a.jpg")]
    # Mounted again, by a different number.
    folder.rmdir()
    away.rename(folder)
    assert (look(watched), watched.is_new_drive) == ([], True)
    write(folder / "b.jpg")
    assert [look(watched), look(watched), watched.is_new_drive] == [[], ["b.jpg"], False]


def test_a_subfolder_that_cannot_be_read_stops_no_other(as_nobody: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(as_nobody / "closed" / "a.jpg")
    watched = Arrivals(str(as_nobody))
    assert [look(watched), look(watched)] == [[], ["closed/a.jpg"]]
    (as_nobody / "closed").chmod(0)
    write(as_nobody / "b.jpg")
    assert [look(watched), look(watched)] == [[], ["b.jpg"]]
    assert caplog.text.count("closed: permission denied; looking again") == 1
    (as_nobody / "closed").chmod(0o700)
    assert look(watched) == []


def test_the_oldest_comes_first(folder: Path) -> None:
    for age, name in enumerate(("c.jpg", "a.jpg", "b.jpg")):
        os.utime(write(folder / name), (1e9 - age, 1e9 - age))
    assert look(Arrivals(str(folder))) == ["b.jpg", "a.jpg", "c.jpg"]


def test_names_that_programs_give_meanwhile_end_in_lower_case() -> None:
    assert all(ending == ending.lower() for ending in arrivals.BEING_WRITTEN)
