"""weldnet runs: the finished runs, what they are worth, and what differs between them."""

import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from weldnet.config.literal import read_config
from weldnet.config.resume import CONFIG
from weldnet.config.runs import show
from weldnet.config.trainings import list_settings
from weldnet.console import print_table
from weldnet.errors import InputError
from weldnet.evaluation.metrics import show_figure
from weldnet.inference.checkpoint import find_newest_run
from weldnet.inference.finished_runs import FinishedRun, find_best, list_finished

MOST_SHOWN = 20


def main() -> None:
    """`weldnet runs [DIR]`: prints the table of the runs below `runs/train`, or another folder."""
    folder = Path(*sys.argv[1:2] or ["runs/train"]).expanduser().absolute()
    runs = list_finished(folder)
    if not runs or len(sys.argv) > 2:
        print(f"weldnet runs: no finished run below {folder}; type weldnet runs DIR", file=sys.stderr)
        sys.exit(2)
    print_table(tabulate_runs(runs[:MOST_SHOWN], find_best(folder, find_newest_run(folder))))


def tabulate_runs(runs: list[FinishedRun], best: FinishedRun | None) -> Table:
    """A row for each run, the newest first, with the settings that are not the same in all of them."""
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
        table.add_row(f"{show(run.folder)}{mark}", *figures, f"{other}{differs}")
    table.caption = (
        "Balanced accuracy, over images and as the mean over welds. * ckpt_path=best: the best on validation of the "
        "runs with the newest one's images and splits."
    )
    return table


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        return dict(list_settings(read_config(folder / CONFIG)))
    except (InputError, OSError):
        return {}
