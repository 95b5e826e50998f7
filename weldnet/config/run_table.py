"""The table of finished runs: what they are worth, and what differs between them."""

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from weldnet.config.literal import read_config
from weldnet.config.resumable import list_settings
from weldnet.config.resume import CONFIG
from weldnet.config.runs import show
from weldnet.console import print_table
from weldnet.errors import InputError
from weldnet.evaluation.metrics import show_figure
from weldnet.inference.finished_runs import FinishedRun, list_finished

MOST_RUNS = 20


def print_sweep(folders: list[Path]) -> None:
    """Prints the table of those runs of a sweep that are finished, the best on validation first."""
    finished = [run for parent in {each.parent for each in folders} for run in list_finished(parent)]
    # The runs of several seeds lie together in one folder.
    runs = [run for run in finished if {run.folder, run.folder.parent} & {*folders}]
    runs.sort(key=lambda run: run.figure, reverse=True)
    if runs:
        print_table(tabulate_runs(runs[:MOST_RUNS], runs[0], "the best on validation"))


def tabulate_runs(runs: list[FinishedRun], best: FinishedRun | None, meaning: str) -> Table:
    """A row for each run, with the settings that are not the same in all of them; the best one has a mark."""
    settings = [_read_settings(run.folder) for run in runs]
    keys = sorted({key for each in settings for key in each if any(other.get(key) != each[key] for other in settings)})
    table = Table(box=None, caption_justify="left", pad_edge=False)
    for name in ("run", "validation", "by weld", "test", "by weld"):
        table.add_column(name, no_wrap=True, justify="left" if name == "run" else "right")
    table.add_column("differs by", overflow="fold")
    for run, own in zip(runs, settings, strict=True):
        mark = " *" if best and run.folder == best.folder else ""
        figures = [
            show_figure(split.get(key))
            for split in (run.validation, run.test or {})
            for key in ("balanced_accuracy", "balanced_accuracy_by_group")
        ]
        differs = "  ".join(f"{key}={own[key]}" for key in keys if key in own)
        other = "" if best and run.comparable == best.comparable else "other images or splits  "
        table.add_row(Text(f"{show(run.folder)}{mark}"), *figures, Text(f"{other}{differs}"))
    table.caption = f"Balanced accuracy, over images and as the mean over welds.\n* {meaning}."
    return table


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        return dict(list_settings(read_config(folder / CONFIG)))
    except (InputError, OSError):
        return {}
