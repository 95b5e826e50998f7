"""The cache holds what the decoder returns, decodes each content once, and is whole or absent."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from decoding import read_image
from drawing import draw_noise, save_image

from weldnet.data import cache
from weldnet.data.cache import cache_folder, decode_images
from weldnet.data.decode.images import Geometry, to_geometry
from weldnet.data.decode.pictures import Picture
from weldnet.data.storage import DecodedImages
from weldnet.errors import InputError

SMALL = Geometry(height=12, width=6)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(save_image(tmp_path / "welds" / f"{i}.png", draw_noise(30, 10 + i, seed=i))) for i in range(5)]


def decode(files: list[str], folder: Path, geometry: Geometry = SMALL, **options: Any) -> DecodedImages:
    return decode_images(pl.Series(files, dtype=pl.String), geometry, folder / "cache", **options)


def pixels(decoded: DecodedImages) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return decoded.read(np.arange(len(decoded.digests)))


class Counter:
    """Stands in for to_geometry and counts the contents that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_decoded = 0
        monkeypatch.setattr(cache, "to_geometry", self)

    def __call__(self, content: bytes, geometry: Geometry) -> tuple[np.ndarray[Any, Any], Picture]:
        self.num_decoded += 1
        return to_geometry(content, geometry)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("orient", ["as_is", "long_side_vertical"])
def test_rows_are_the_decoders(files: list[str], tmp_path: Path, resize: str, orient: str) -> None:
    decoded = decode(files, tmp_path, Geometry(12, 6, resize, orient))
    images = pixels(decoded)
    assert images.dtype == np.uint8
    assert images.shape == (5, 3, 12, 6)
    for row, file in zip(images, files, strict=True):
        assert (row == read_image(file, height=12, width=6, resize=resize, orient=orient)).all()
    assert decoded.unreadable == {}
    assert not decoded.images.flags.writeable


@pytest.mark.parametrize("rows_a_chunk", [1, 2, 5, 100])
def test_second_call_reads_nothing(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_chunk: int
) -> None:
    monkeypatch.setattr(cache, "CHUNK_BYTES", rows_a_chunk * 3 * 12 * 6)
    counter = Counter(monkeypatch)
    first = decode(files, tmp_path)
    assert counter.num_decoded == 5
    assert len(first.images) == 5
    assert first.sizes.tolist() == [[10 + number, 30] for number in range(5)]
    monkeypatch.setattr(cache, "read_content", lambda path: pytest.fail(f"{path} was read again"))
    second = decode(files, tmp_path)
    assert counter.num_decoded == 5
    assert (pixels(first) == pixels(second)).all()
    assert second.sizes.tolist() == first.sizes.tolist()


def rename(files: list[str]) -> None:
    for file in files:
        os.rename(file, f"{file}.png")
    files[:] = [f"{file}.png" for file in files]


def touch(files: list[str]) -> None:
    for file in files:
        os.utime(file)


def replace_unseen(files: list[str]) -> None:
    """Other pixels, the same size on disk and the same time of change as far as a program can set it."""
    stat = os.stat(files[2])
    # What follows the end of a PNG is passed over.
    Path(files[2]).write_bytes(Path(files[0]).read_bytes().ljust(stat.st_size, b"\0"))
    os.utime(files[2], ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change_one(files: list[str]) -> None:
    save_image(Path(files[2]), draw_noise(30, 12, seed=99))


def copy_one(files: list[str]) -> None:
    files.append(f"{files[0]}_copy.png")
    Path(files[-1]).write_bytes(Path(files[0]).read_bytes())


def add_one(files: list[str]) -> None:
    files.insert(1, f"{files[0]}_new.png")
    save_image(Path(files[1]), draw_noise(20, 20, seed=50))


@pytest.mark.parametrize(
    ("change", "num_decoded"),
    [(rename, 0), (touch, 0), (copy_one, 0), (replace_unseen, 1), (change_one, 1), (add_one, 1), (list.reverse, 0)],
)
def test_only_new_content_is_decoded(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, num_decoded: int
) -> None:
    decode(files, tmp_path)
    counter = Counter(monkeypatch)
    change(files)
    images = pixels(decode(files, tmp_path))
    assert counter.num_decoded == num_decoded
    for row, file in zip(images, files, strict=True):
        assert (row == read_image(file, height=12, width=6)).all()


def test_whatever_changes_pixels_decodes_again(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode(files, tmp_path)
    for geometry in (
        Geometry(12, 7),
        Geometry(12, 6, "letterbox"),
        Geometry(12, 6, orient="long_side_vertical"),
        Geometry(12, 6, window=(10, 200)),
        Geometry(12, 6, window="percentile"),
        Geometry(12, 6, normalize="per_image"),
    ):
        counter = Counter(monkeypatch)
        decode(files, tmp_path, geometry)
        assert counter.num_decoded == 5
    counter = Counter(monkeypatch)
    monkeypatch.setattr(cache, "DECODER_VERSION", -1)
    decode(files, tmp_path)
    assert counter.num_decoded == 5


def test_identical_files_share_a_row(files: list[str], tmp_path: Path) -> None:
    for copy in range(20):
        copy_one(files)
        os.rename(files[-1], f"{files[-1]}{copy}")
        files[-1] += str(copy)
    decoded = decode(files, tmp_path)
    assert len(decoded.images) == 5
    assert decoded.digests.n_unique() == 5
    assert (pixels(decoded)[5:] == pixels(decoded)[0]).all()


def test_digests_alone(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = decode(files, tmp_path, pixels=False)
    assert list((tmp_path / "cache").rglob("*.u8")) == []
    counter = Counter(monkeypatch)
    assert decode(files, tmp_path, pixels=False).digests.equals(alone.digests)
    assert counter.num_decoded == 0
    full = decode(files, tmp_path)
    assert counter.num_decoded == 5
    assert full.digests.equals(alone.digests)
    assert decode(files, tmp_path, pixels=False).digests.equals(alone.digests)
    assert counter.num_decoded == 5


def test_unreadable_files_are_named_and_tried_again(files: list[str], tmp_path: Path) -> None:
    whole = Path(files[1]).read_bytes()
    Path(files[1]).write_bytes(b"")
    Path(files[3]).unlink()
    for _ in range(2):
        decoded = decode(files, tmp_path)
        assert decoded.unreadable == {1: "the file is empty", 3: "no such file"}
        assert decoded.select(np.array([0, 2, 4])).read(np.array([1])).any()
    Path(files[1]).write_bytes(whole)
    assert list(decode(files, tmp_path).unreadable) == [3]


def test_links_may_not_leave_the_folder(files: list[str], tmp_path: Path) -> None:
    inside, outside = tmp_path / "welds" / "inside.png", save_image(tmp_path / "secret.png", draw_noise(9, 9))
    inside.symlink_to(files[0])
    (tmp_path / "welds" / "out.png").symlink_to(outside)
    (tmp_path / "welds" / "folder").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(tmp_path / "welds")
    names = ["inside.png", "out.png", "folder/secret.png", "0.png"]
    for folder in ("welds", "alias"):
        paths = [str(tmp_path / folder / name) for name in names]
        decoded = decode([*paths, str(outside)], tmp_path, within=tmp_path / folder)
        assert list(decoded.unreadable) == [1, 2]
        assert all("symbolic link that leaves" in reason for reason in decoded.unreadable.values())


def test_what_is_no_file_is_not_opened(files: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    names = [
        str(tmp_path / "pipe.png"),
        str(tmp_path / "folder.png"),
        "/dev/zero",
        "a\0b.png",
        f"{tmp_path}/{'a' * 300}",
    ]
    assert list(decode([*names, *files], tmp_path).unreadable) == [0, 1, 2, 3, 4]


def test_unwritable_folder_is_the_users_to_mend(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(InputError, match=r"cannot be written.*data\.cache_dir"):
        decode(files, tmp_path)


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]


def test_a_full_disk_leaves_nothing(files: list[str], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # To a program a full disk and the end of its allowance look alike.
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(InputError, match=rf"cannot be written: {os.strerror(errno.EFBIG)}.*data\.cache=none"):
            decode(files, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_below(tmp_path / "cache") == []
    assert len(pixels(decode(files, tmp_path))) == 5


@pytest.mark.parametrize("exception", [KeyboardInterrupt, MemoryError])
def test_stopped_half_way_keeps_whole_segments_only(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    monkeypatch.setattr(cache, "CHUNK_BYTES", 2 * 3 * 12 * 6)
    third = Path(files[3]).read_bytes()

    def fail(content: bytes, geometry: Geometry) -> tuple[np.ndarray[Any, Any], Picture]:
        if content == third:
            raise exception
        return to_geometry(content, geometry)

    monkeypatch.setattr(cache, "to_geometry", fail)
    with pytest.raises(exception):
        decode(files, tmp_path)
    assert sorted(file.suffix for file in files_below(tmp_path / "cache")) == [".parquet", ".u8"]
    counter = Counter(monkeypatch)
    assert len(pixels(decode(files, tmp_path))) == 5
    assert counter.num_decoded == 3


BUILD = """
    import sys, polars as pl
    from pathlib import Path
    from weldnet.data.cache import decode_images
    from weldnet.data.decode.images import Geometry
    folder = Path(sys.argv[1])
    paths = pl.Series(sorted(map(str, (folder / "many").glob("*.png"))))
    decoded = decode_images(paths, Geometry(12, 6), folder / "cache")
    print(len(decoded.images), len(decoded.digests), len(decoded.unreadable))
"""


def test_what_tables_say_is_checked(files: list[str], tmp_path: Path) -> None:
    decode(files, tmp_path)
    (table,) = (tmp_path / "cache").rglob("*.parquet")
    for rows in (pl.col("row") + 1000, -pl.col("row") - 1, pl.col("row") * 0):
        whole = pl.read_parquet(table)
        whole.with_columns(row=rows).write_parquet(table)
        images = pixels(decode(files, tmp_path))
        assert all((row == read_image(f, height=12, width=6)).all() for row, f in zip(images, files, strict=True))


def test_pixels_that_the_index_does_not_name_are_cut_off(files: list[str], tmp_path: Path) -> None:
    before = pixels(decode(files, tmp_path))
    (file,) = (tmp_path / "cache").rglob("*.u8")
    with file.open("ab") as stream:
        stream.write(b"0" * 1000)
    files.append(str(save_image(tmp_path / "new.png", draw_noise(9, 9))))
    images = pixels(decode(files, tmp_path))
    assert (images[:5] == before).all()
    assert (images[5] == read_image(files[5], height=12, width=6)).all()
    assert file.stat().st_size == images.nbytes


def test_a_run_at_work_keeps_the_pixels_whose_index_is_lost(files: list[str], tmp_path: Path) -> None:
    at_work = decode(files, tmp_path)
    before = pixels(at_work)
    (table,) = (tmp_path / "cache").rglob("*.parquet")
    table.unlink()
    pixels(decode(files[::-1][:2], tmp_path))
    assert (pixels(at_work) == before).all()


def test_a_cache_that_may_only_be_read(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode(files, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    (tmp_path / "bad.png").write_bytes(b"")
    decoded = decode([*files, str(tmp_path / "bad.png")], tmp_path)
    assert decoded.unreadable == {5: "the file is empty"}
    assert decoded.read(np.arange(5)).any()
    with pytest.raises(InputError, match="Read-only file system"):
        decode([*files, str(save_image(tmp_path / "new.png", draw_noise(9, 9)))], tmp_path)


def start_build(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_runs_at_once_and_a_killed_one(tmp_path: Path) -> None:
    for i in range(300):
        save_image(tmp_path / "many" / f"{i:03d}.png", draw_noise(120, 80, seed=i))
    killed = start_build(tmp_path)
    until = time.monotonic() + 60
    while not list((tmp_path / "cache").rglob("*.u8")) and time.monotonic() < until:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    builds = [start_build(tmp_path) for _ in range(2)]
    # What one decodes the other finds: no content stands twice.
    assert [build.communicate()[0].split()[-3:] for build in builds] == [["300", "300", "0"]] * 2
    (file,) = (tmp_path / "cache").rglob("*.u8")
    assert file.stat().st_size == 300 * 3 * 12 * 6


@pytest.mark.parametrize("position", [0, 1, 215, 216, 500, 1079])
def test_a_flipped_byte_of_the_pixels_is_found(
    files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, position: int
) -> None:
    decode(files, tmp_path)
    (file,) = (tmp_path / "cache").rglob("*.u8")
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    images = pixels(decode(files, tmp_path))
    assert all((row == read_image(f, height=12, width=6)).all() for row, f in zip(images, files, strict=True))
    assert "its pixels are not those that were written" in caplog.text
    caplog.clear()
    assert (pixels(decode(files, tmp_path)) == images).all()
    assert caplog.text == ""


def test_only_what_is_used_is_verified(files: list[str], tmp_path: Path) -> None:
    decode(files, tmp_path)
    (file,) = (tmp_path / "cache").rglob("*.u8")
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    table = pl.read_parquet(file.with_suffix(".parquet"))
    used = table.filter(pl.col("row") > 0)["path"].to_list()
    assert len(pixels(decode(used, tmp_path))) == 4
    assert file.exists()


@pytest.mark.parametrize("ending", ["u8", "parquet"])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: os.truncate(file, 100)])
def test_a_damaged_segment_is_made_again(
    files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, damage: Any
) -> None:
    decode(files, tmp_path)
    (file,) = (tmp_path / "cache").rglob(f"*.{ending}")
    damage(file)
    file_was_cut = file.exists()
    images = pixels(decode(files, tmp_path))
    assert all((row == read_image(f, height=12, width=6)).all() for row, f in zip(images, files, strict=True))
    # Without its table a segment is as if it had never been.
    assert ("the cache is damaged" in caplog.text) == (ending == "u8" or file_was_cut)
    caplog.clear()
    decode(files, tmp_path)
    assert caplog.text == ""


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
