"""The cache holds what the decoder says, decodes once, and is whole or absent."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_noise, save_image

from weldnet.data import cache
from weldnet.data.cache import cache_folder, decode_images
from weldnet.data.images import Geometry, read_image
from weldnet.errors import InputError

SMALL = Geometry(height=12, width=6)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(save_image(tmp_path / "welds" / f"{i}.png", draw_noise(30, 10 + i, seed=i))) for i in range(5)]


class Counter:
    """Stands in for read_image and counts the files that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[str] = []
        monkeypatch.setattr(cache, "read_image", self)

    def __call__(self, path: str, **geometry: Any) -> object:
        self.decoded.append(path)
        return read_image(path, **geometry)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("orient", ["as_is", "long_side_vertical"])
def test_rows_are_the_decoders(files: list[str], tmp_path: Path, resize: str, orient: str) -> None:
    decoded = decode_images(files, Geometry(12, 6, resize, orient), tmp_path / "cache")
    assert decoded.images.dtype == np.uint8
    assert decoded.images.shape == (5, 3, 12, 6)
    for row, file in zip(decoded.images, files, strict=True):
        assert (row == read_image(file, height=12, width=6, resize=resize, orient=orient)).all()
    assert decoded.unreadable == {}
    assert not decoded.images.flags.writeable


def test_second_call_decodes_nothing(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    first = decode_images(files, SMALL, tmp_path / "cache")
    assert sorted(counter.decoded) == files
    second = decode_images(files, SMALL, tmp_path / "cache")
    assert len(counter.decoded) == 5
    assert (first.images == second.images).all()


def test_whatever_changes_pixels_decodes_again(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decode_images(files, SMALL, tmp_path / "cache")
    counter = Counter(monkeypatch)
    stat = os.stat(files[2])
    save_image(Path(files[2]), draw_noise(30, 12, seed=99))
    os.utime(files[2], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = decode_images(files, SMALL, tmp_path / "cache")
    assert len(counter.decoded) == 5
    assert [bool((a == b).all()) for a, b in zip(before.images, after.images, strict=True)] == [True] * 2 + [False] + [
        True
    ] * 2
    for geometry in (Geometry(12, 7), Geometry(12, 6, "letterbox"), Geometry(12, 6, orient="long_side_vertical")):
        counter.decoded.clear()
        decode_images(files, geometry, tmp_path / "cache")
        assert len(counter.decoded) == 5
    counter.decoded.clear()
    monkeypatch.setattr(cache, "DECODER_VERSION", -1)
    decode_images(files, SMALL, tmp_path / "cache")
    assert len(counter.decoded) == 5


def test_order_of_files_is_the_order_of_rows(files: list[str], tmp_path: Path) -> None:
    forwards = decode_images(files, SMALL, tmp_path / "cache")
    backwards = decode_images(files[::-1], SMALL, tmp_path / "cache")
    assert (forwards.images == backwards.images[::-1]).all()


def test_unreadable_rows_are_named_and_zero(files: list[str], tmp_path: Path) -> None:
    Path(files[1]).write_bytes(b"")
    Path(files[3]).unlink()
    for _ in range(2):
        decoded = decode_images(files, SMALL, tmp_path / "cache")
        assert decoded.unreadable == {1: "the file is empty", 3: "no such file"}
        assert (decoded.images[[1, 3]] == 0).all()
        assert all(decoded.images[row].any() for row in (0, 2, 4))


def test_unwritable_folder_is_the_users_to_mend(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written.*data\.cache_dir"):
        decode_images(files, SMALL, tmp_path / "file" / "cache")


@pytest.mark.parametrize("exception", [KeyboardInterrupt, MemoryError])
def test_killed_half_way_leaves_nothing(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    def fail(path: str, **geometry: Any) -> object:
        if path == files[3]:
            raise exception
        return read_image(path, **geometry)

    monkeypatch.setattr(cache, "read_image", fail)
    with pytest.raises(exception):
        decode_images(files, SMALL, tmp_path / "cache")
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []
    monkeypatch.undo()
    assert len(decode_images(files, SMALL, tmp_path / "cache").images) == 5


def test_array_without_its_seal_is_not_used(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_images(files, SMALL, tmp_path / "cache")
    (seal,) = (tmp_path / "cache").rglob("*.json")
    seal.unlink()
    counter = Counter(monkeypatch)
    decode_images(files, SMALL, tmp_path / "cache")
    assert len(counter.decoded) == 5


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ("/given", {"WELDNET_CACHE": "/weldnet", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/given"),
        (None, {"WELDNET_CACHE": "/weldnet", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/weldnet"),
        (None, {"WELDNET_CACHE": "", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/weldnet"),
        (None, {"WELDNET_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/weldnet"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, given: str | None, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder(given) == Path(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0}, r"data\.image_size\.height=0"),
        ({"width": 5000}, r"data\.image_size\.width=5000"),
        ({"resize": "leterbox"}, r"data\.resize=leterbox.*did you mean 'letterbox'"),
        ({"orient": "up"}, r"data\.orient=up: allowed are as_is, long_side_vertical"),
    ],
)
def test_geometry_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Geometry(**settings)
