"""What an audit finds."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first. An error makes training fail or a test score wrong; a note is only to be known."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with some images, or with all of them.

    Attributes:
        kind: what it is, one of the keys of `weldnet.report.kinds.KINDS`.
        paths: the images it is about; empty where it is about a class or about all of them.
        detail: one sentence: what was seen.
    """

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    detail: str
