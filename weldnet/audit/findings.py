"""What an audit finds."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first. An error makes training fail or a test score wrong; a note is only to be known."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with the images `paths` or, where there are none, with a class or all images.

    `kind` is a key of `weldnet.report.kinds.KINDS`, `detail` one sentence.
    """

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    detail: str
