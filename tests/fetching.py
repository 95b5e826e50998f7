"""Packages that only one test needs, from the registry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def fetch(folder: Path, *wanted: str) -> dict[str, str]:
    """An environment in which Python imports these packages first; skips the test where pip cannot install them.

    Args:
        folder: not there yet; what else is to be imported may be put there.
        wanted: as pip takes them.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"]
    # Compiling all of it takes longer than the test needs of it.
    command = [*pip, "--no-compile", "--target", str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {wanted[0]}: {done.stderr.strip().splitlines()[-1]}")
    return os.environ | {"PYTHONPATH": str(folder)}
