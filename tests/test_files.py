"""Files that are replaced, and the messages about a disk that refuses them."""

import csv
import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import zipfile
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
import torch
from filelock import FileLock, Timeout

from weldnet.errors import InputError
from weldnet.files import (
    explain_refusal,
    find_damage,
    lock_folder,
    move_into_place,
    name_failures,
    read_csv,
    remove_leftovers,
    replace_file,
    write_csv,
    write_text,
)

HOSTILE_NAMES = [
    "cr\rcr.jpg",
    "lf\nlf.jpg",
    "crlf\r\n.jpg",
    "\r",
    'quo"te".jpg',
    '"',
    "com,ma.jpg",
    " blanks ",
    "\ttab\t",
    "=cmd|' c calc'!A1",
    "@sum",
    "-1+1",
    "'single'",
    "semi;colon",
    "# comment",
    "weld \N{FIRE}.jpg",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.dlew",
    "\N{LINE SEPARATOR}\N{NEXT LINE}\v\f\x1c",
    "\N{ZERO WIDTH NO-BREAK SPACE}bom",
    "\x7f\x1b[31m",
]


def test_names_stay_in_their_cell(tmp_path: Path) -> None:
    table = pl.DataFrame({"path": HOSTILE_NAMES, 'a "class",\r': HOSTILE_NAMES[::-1], "number": 0.5, "flag": True})
    write_csv(tmp_path / "table.csv", table)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == table.columns
    assert [row[0] for row in rows[1:]] == HOSTILE_NAMES
    assert pl.read_csv(tmp_path / "table.csv")["path"].to_list() == HOSTILE_NAMES
    assert read_csv(tmp_path / "table.csv").equals(table.cast(pl.String))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError(), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")

    def write() -> None:
        with replace_file(tmp_path / "a") as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)) as raised:
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    if isinstance(error, OSError):
        assert isinstance(raised.value, OSError)
        assert raised.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("name", ["a", "n" * 255, "ü" * 127])
def test_what_a_killed_process_left_is_not_in_the_way(tmp_path: Path, name: str) -> None:
    with replace_file(tmp_path / name) as temporary:
        temporary.write_text("half")
        left = temporary
    left.write_text("of a killed process")
    with replace_file(tmp_path / name) as temporary, temporary.open("a") as file:
        file.write("whole")
    assert (tmp_path / name).read_text() == "whole"
    left.write_text("again")
    (tmp_path / "other.tmp").touch()
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {name, "other.tmp"}


def test_a_folder_is_locked_against_others(tmp_path: Path) -> None:
    other = FileLock(tmp_path / ".lock", timeout=0)
    with other, pytest.raises(InputError, match=f"another command is at work in {tmp_path}"), lock_folder(tmp_path):
        pytest.fail("two have it")
    with lock_folder(tmp_path):
        with lock_folder(tmp_path):
            pass
        with pytest.raises(Timeout):
            other.acquire()
    assert list(tmp_path.iterdir()) == []


def test_of_those_who_wait_for_a_folder_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One opens the lock's file while it is held, and locks it only when a third has made it anew."""
    early, late = (FileLock(tmp_path / ".lock", timeout=0) for _ in range(2))
    held, flock, unlink = lock_folder(tmp_path), fcntl.flock, Path.unlink

    def end_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        held.__exit__(None, None, None)
        late.acquire()
        flock(descriptor, operation)

    def unlink_while_held(file: Path) -> None:
        with pytest.raises(Timeout):
            late.acquire()
        unlink(file)

    held.__enter__()
    monkeypatch.setattr(fcntl, "flock", end_first)
    monkeypatch.setattr(Path, "unlink", unlink_while_held)
    with pytest.raises(Timeout):
        early.acquire()
    assert late.is_locked
    late.release()


def test_an_error_unlocks_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConnectionAbortedError), lock_folder(tmp_path):
        raise ConnectionAbortedError
    assert list(tmp_path.iterdir()) == []
    with FileLock(tmp_path / ".lock", timeout=0):
        pass


@pytest.mark.parametrize(("number", "is_folder"), [(errno.EINVAL, True), (errno.EACCES, True), (errno.EIO, False)])
def test_a_drive_that_cannot_flush_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_folder: bool
) -> None:
    """As some network drives; of a file the refusal counts."""

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == is_folder:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with nullcontext() if is_folder else pytest.raises(OSError, match=os.strerror(number)):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").exists() == is_folder


def test_a_folder_is_moved_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "made" / "below").mkdir(parents=True)
    (tmp_path / "made" / "below" / "file").write_text("content")
    move_into_place(tmp_path / "made", tmp_path / "folder")
    assert (tmp_path / "folder" / "below" / "file").read_text() == "content"
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def explain(number: int, file: object) -> str | None:
    error = OSError(number, os.strerror(number), file)
    return explain_refusal(error)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on device; the folder {0} has .* MB free; make room there"),
        (errno.EDQUOT, "quota exceeded; the folder {0} has .* MB free; your quota is used up"),
        (errno.EROFS, "read-only file system; the folder {0} has .* MB free; name a different folder"),
        (errno.EACCES, "permission denied; the folder {0} has .* MB free; change its permissions"),
        (errno.EFBIG, "file too large; the folder {0} has .* MB free; raise the limit of ulimit -f"),
        (errno.EIO, "input/output error; the folder {0} has .* MB free; check the disk"),
        (errno.EMFILE, "too many open files; the folder {0} has .* MB free; raise the limit of open files"),
        (errno.EISDIR, "is a directory$"),
    ],
)
def test_what_the_system_refuses_is_explained(tmp_path: Path, number: int, words: str) -> None:
    for file in (str(tmp_path / "a"), os.fsencode(tmp_path / "a"), tmp_path / "not" / "there" / "a"):
        message = explain(number, file)
        assert message is not None
        assert re.search(f"^{re.escape(os.fsdecode(str(file) if isinstance(file, Path) else file))}: ", message)
        assert re.search(words.format(re.escape(str(tmp_path))), message)


def test_an_error_without_a_file_is_explained_only_where_no_fault_of_ours_can_be_behind_it(tmp_path: Path) -> None:
    assert explain_refusal(OSError(errno.ENOSPC, "No space left on device")) == (
        "a file cannot be written: no space left on device"
    )
    for ours in (OSError(errno.EACCES, "x"), OSError(errno.EINVAL, "x"), OSError("x"), ConnectionResetError()):
        assert explain_refusal(ours) is None
    with pytest.raises(OSError, match="x") as raised, name_failures(tmp_path):
        raise OSError(errno.EINVAL, "x")
    assert raised.value.filename is None


def save(file: Path) -> dict[str, object]:
    torch.manual_seed(0)
    content = {"weights": torch.randn(4000), "more": [torch.randn(700), torch.arange(9)], "name": "ß"}
    torch.save(content, file)
    return content


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    content = save(file)
    whole = file.read_bytes()
    assert find_damage(file) is None
    found = 0
    # Also within the list of contents at the end.
    for position in [*range(0, len(whole), len(whole) // 150), *range(len(whole) - 900, len(whole), 7)]:
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        if find_damage(file) is not None:
            found += 1
            continue
        try:
            loaded = torch.load(file, weights_only=True)
        except Exception:
            found += 1
        else:
            assert same(loaded, content), position
    assert found > 100


def test_what_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    assert find_damage(tmp_path / "bomb.pt") == "its list of contents is wrong"


KILLED = """
    import os, sys, threading, time
    from pathlib import Path
    from weldnet.files import replace_file
    target = Path(sys.argv[1])
    print("ready", flush=True)
    for number in range(10**6):
        with replace_file(target) as temporary:
            temporary.write_bytes(bytes([number % 251]) * 3_000_000)
"""


@pytest.mark.slow
def test_a_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    for delay in (0.05, 0.11, 0.17, 0.23):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        if target.exists():
            content = target.read_bytes()
            assert len(content) == 3_000_000
            assert len(set(content)) == 1
    assert target.exists()
