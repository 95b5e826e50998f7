"""What source= means."""

import os
from pathlib import Path

import pytest
from drawing import draw_noise, save_image

from weldnet.data.sources.selection import find_base, find_images, refuse_inside
from weldnet.errors import InputError

FILES = ("a/x.jpg", "a/y [1].PNG", "b/deep/z.jpg", "b/notes.txt", ".hidden/h.jpg", "a/.h.jpg", "w.jpg")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    for name in FILES:
        if name.endswith("txt"):
            (folder / name).write_text("no image")
        else:
            save_image(folder / name, draw_noise(4, 4))
    (tmp_path / "list.csv").write_text("label,Path\n,photos/w.jpg\ncrack,photos/a/x.jpg\n")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("source", "names", "base"),
    [
        ("photos", ["a/x.jpg", "a/y [1].PNG", "b/deep/z.jpg", "w.jpg"], ""),
        ("photos/", ["a/x.jpg", "a/y [1].PNG", "b/deep/z.jpg", "w.jpg"], ""),
        ("photos/b/notes.txt", ["b/notes.txt"], "b"),
        ("photos/a/y [1].PNG", ["a/y [1].PNG"], "a"),
        ("photos/*.jpg", ["w.jpg"], ""),
        ("photos/**/*", ["a/x.jpg", "a/y [1].PNG", "b/deep/z.jpg", "w.jpg"], ""),
        ("photos/[ab]/**/?.jpg", ["a/x.jpg", "b/deep/z.jpg"], ""),
        ("photos/**/**/z.jpg", ["b/deep/z.jpg"], ""),
        ("list.csv", ["w.jpg", "a/x.jpg"], ".."),
    ],
)
def test_sources(photos: Path, source: str, names: list[str], base: str) -> None:
    paths = find_images(source)
    assert [os.path.relpath(path, photos) for path in paths] == names
    assert Path(find_base(source, paths)) == (photos / base).resolve()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("photos/*.tif", "no image there"),
        ("empty", "no image there"),
        ("photos/b[1]/*.jpg", r"typed \[\[\]"),
        ("photos/*/", "names images, not folders; type photos/"),
        ("photos/none.csv", "no column path"),
        ("out.csv", "may not leave"),
        ("linked", "symbolic links leave"),
    ],
)
def test_what_is_no_source(photos: Path, source: str, words: str) -> None:
    Path("empty").mkdir()
    Path("photos/none.csv").write_text("file\nw.jpg\n")
    Path("out.csv").write_text("path\n../secret.jpg\n")
    Path("linked").mkdir()
    Path("linked/away.jpg").symlink_to(photos / "w.jpg")
    with pytest.raises(InputError, match=words):
        find_images(source)


@pytest.mark.parametrize(
    "source", ["", "*/*.jpg", "**/*.jpg", "closed/*.jpg", "[a-c]*/**/x.jpg", "*/x.jpg", "c*/no/*.jpg"]
)
def test_a_closed_folder_is_not_passed_over(as_nobody: Path, source: str) -> None:
    for name in ("open", "closed"):
        save_image(as_nobody / name / "x.jpg", draw_noise(4, 4))
    (as_nobody / "closed").chmod(0o000)
    with pytest.raises(InputError, match="closed cannot be read: permission denied"):
        find_images(f"{as_nobody}/{source}")
    assert find_images(f"{as_nobody}/open/*.jpg") == [f"{as_nobody}/open/x.jpg"]


@pytest.mark.parametrize("source", ["*/x.jpg", "[a-p]*/deep/*.jpg"])
def test_a_folder_that_may_only_be_passed_through(as_nobody: Path, source: str) -> None:
    for name in ("x.jpg", "deep/y.jpg"):
        save_image(as_nobody / "passage" / name, draw_noise(4, 4))
    (as_nobody / "passage").chmod(0o111)
    assert len(find_images(f"{as_nobody}/{source}")) == 1


def test_links_in_a_circle_find_nothing_twice(photos: Path) -> None:
    (photos / "a" / "round").symlink_to("../a")
    (photos / "b" / "other").symlink_to("../a")
    expected = [str(photos / name) for name in ("a/x.jpg", "b/deep/z.jpg", "w.jpg")]
    assert find_images("photos/**/*.jpg") == expected
    assert find_images("photos/b/other/*.jpg") == [str(photos / "b/other/x.jpg")]


def test_a_link_within_the_folder_is_followed(photos: Path) -> None:
    (photos / "again.jpg").symlink_to(photos / "w.jpg")
    assert str(photos / "again.jpg") in find_images("photos")


@pytest.mark.parametrize(
    ("source", "folder", "is_inside"),
    [
        ("photos", "photos/a/out", True),
        ("photos", "photos", True),
        ("photos/**/*.jpg", "photos/out", True),
        ("photos", "other", False),
        ("photos", "photos/runs/crossval/2026-11-28_10-17-50_b75a19/fold_0", False),
        ("photos/w.jpg", "photos/out", False),
        ("list.csv", "photos/out", False),
    ],
)
def test_nothing_is_written_where_it_would_be_found(photos: Path, source: str, folder: str, is_inside: bool) -> None:
    if is_inside:
        with pytest.raises(InputError, match="lies in the source"):
            refuse_inside("output_dir", Path(folder), source)
    else:
        refuse_inside("output_dir", Path(folder), source)
