"""What made a file, and what identifies it."""

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path


def current_versions() -> dict[str, str]:
    """The versions of weldnet and of what it computes with."""
    return {name: version(name) for name in ("weldnet", "torch", "torchvision", "lightning")}


def current_commit() -> str | None:
    """The git commit of weldnet's source, with `-dirty` where it was changed since; None where it is no checkout."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
