"""The runs that were tested, and which of them is best."""

import json
from pathlib import Path
from typing import Any, NamedTuple

RUNS = Path("runs", "train")
"""The folder of training runs."""


class FinishedRun(NamedTuple):
    """A run folder with the figures of its `metrics.json`: of validation and, where there was one, of the test."""

    folder: Path
    validation: dict[str, Any]
    test: dict[str, Any] | None

    @property
    def comparable(self) -> tuple[str, str]:
        """Alike for runs with the same images in the same splits."""
        return self.validation["split_digest"], self.validation["validation_groups"]

    @property
    def figure(self) -> float:
        """What validation measures, on welds that training has never seen where it has any."""
        by_weld = self.validation["validation_groups"] == "unseen"
        return float(self.validation["balanced_accuracy_by_group" if by_weld else "balanced_accuracy"])


def list_finished(*folders: Path) -> list[FinishedRun]:
    """The runs below some folders that were tested, the newest first; what cannot be read is left out."""
    found = []
    for file in (file for each in folders for name in ("*", "*/seed_*") for file in each.glob(f"{name}/metrics.json")):
        try:
            metrics = json.loads(file.read_text("utf-8"))
            run = FinishedRun(file.parent, metrics["validation"], metrics if "split" in metrics else None)
            found.append((file.stat().st_mtime_ns, run, run.comparable, run.figure))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [run for _, run, *_ in sorted(found, key=lambda each: each[0], reverse=True)]


def find_best(runs: Path, newest: Path | None) -> FinishedRun | None:
    """The run with the best figure of those that are comparable with the newest one; of equal ones the newest.

    None where the newest, a folder below `runs`, is not finished: what it is comparable with is unknown.
    """
    finished = list_finished(runs)
    own = next((run for run in finished if newest in (run.folder, run.folder.parent)), None)
    rivals = [run for run in finished if own and run.comparable == own.comparable]
    return max(rivals, key=lambda run: run.figure, default=None)


def find_newest_run(runs: Path) -> Path | None:
    """The run folder below `runs` that was begun or resumed last, whether or not it has finished an epoch."""
    configs = sorted(runs.absolute().glob("*/config.yaml"), key=lambda file: file.stat().st_mtime_ns)
    return configs[-1].parent if configs else None
