"""What an audit finds."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first. An error makes training fail or a test score wrong; a note is only to be known."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with some images, or, without `paths`, with a class or all of them; `detail` says it in a sentence.

    `kind` is one of the keys of `weldnet.report.kinds.KINDS`.
    """

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    detail: str
