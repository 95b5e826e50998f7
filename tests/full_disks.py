"""Disks that are full, and what they must not leave behind."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mount(folder: Path, size: str) -> Iterator[Path]:
    """Within it, the folder is a disk of its own of a size as `mount` takes it; skips the test where one may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("no right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limit_files(num_bytes: int) -> Iterator[None]:
    """Within it, no file of this process grows past so many bytes: a full disk wherever one may not mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def list_leftovers(folder: Path) -> list[str]:
    """Temporary files, and empty ones but for those that grow."""
    grows = (".lock", "predictions.jsonl", "train.log")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in grows]
    return [str(file.relative_to(folder)) for file in files if file.name.startswith(".") or not file.stat().st_size]
