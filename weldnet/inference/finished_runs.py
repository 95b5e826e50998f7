"""Runs: which is best of those that were tested, and which checkpoint is meant. Without torch, which takes seconds."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from weldnet.errors import InputError

RUNS = Path("runs", "train")
"""The folder of training runs."""

KEPT = ("best.ckpt", "last.ckpt", "ensemble.ckpt")
"""The checkpoint that a run keeps, of which the first one counts; a cross-validation has the last one alone."""


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


def find_checkpoint(ckpt_path: str) -> Path:
    """The file that `ckpt_path` means; an InputError where there is none.

    A file; of a run folder, the one that it keeps; `last`: of the newest run; `best`: of the run with the best
    validation among those with the newest one's images and splits, or of the newest run if it is not finished.
    """
    path = Path(ckpt_path).expanduser().absolute()
    if ckpt_path in ("best", "last") and not path.exists():
        newest = find_newest_run(RUNS)
        if newest is None:
            below = f"no finished epoch of any run below {RUNS.absolute()}"
            raise InputError(f"ckpt_path={ckpt_path}: {below}; type ckpt_path=RUN, a run folder")
        if ckpt_path == "last":
            return newest / "checkpoints" / "last.ckpt"
        best = find_best(RUNS.absolute(), newest)
        return kept_checkpoint(best.folder if best else newest)
    if path.is_dir():
        return kept_checkpoint(path)
    if not path.exists():
        raise InputError(
            f"no checkpoint at {path}; ckpt_path takes a file, a run folder, best or last, and in weldnet-predict and "
            "weldnet-serve an export folder"
        )
    return path


def kept_checkpoint(run: Path) -> Path:
    """The file of `KEPT` that a run folder has; an InputError where it has none."""
    for name in KEPT:
        if (file := run / "checkpoints" / name).is_file():
            return file
    finish = f"(folds are left, or an older weldnet ran it); finish it by weldnet-crossval ckpt_path={run}, or"
    for member, what in (
        ("fold", f"a cross-validation without its ensemble {finish}"),
        ("seed", "a run of several seeds;"),
    ):
        if members := sorted(run.glob(f"{member}_*")):
            raise InputError(f"{run} is {what} name one of its {member}s: ckpt_path={members[0]}")
    raise InputError(
        f"{run} holds no checkpoints/best.ckpt or last.ckpt: not a run folder, or no epoch was finished; an "
        "export folder would hold model.json"
    )


def run_of(checkpoint: Path) -> Path:
    """The run folder of a checkpoint file."""
    return checkpoint.absolute().parent.parent
