"""From a source to files of predictions: streamed, resumable, by one process or several."""

import heapq
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from weldnet.console import watch
from weldnet.engines import ModelFacts
from weldnet.errors import InputError, check_choice
from weldnet.evaluation.report import write_text
from weldnet.prediction_files import NAME, PART, PredictionWriter, Row, gather_rows, merge_parts, read_rows
from weldnet.predictor import Prediction, Predictor

EXPLAIN = ("none", "worst", "all")
NUM_WORST = 24
"""Of `explain=worst`."""
UNREADABLE = "unreadable"
"""The folder of `sort_into` for files without a verdict."""

MAX_WAIT = timedelta(days=7)
"""How long a process that is done waits for the others."""


@dataclass(frozen=True)
class Share:
    """Which part of the work this process does: every `world`-th image, from the `rank`-th on."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_torchrun(cls) -> "Share":
        """As torchrun's environment says; the whole without it."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names)) if all(name in os.environ for name in names) else cls()

    def choose_device(self, device: str) -> str:
        """`auto` as this process's own GPU, where there are several processes and GPUs; else `device` as it is."""
        several = self.world > 1 and device == "auto" and torch.cuda.is_available()
        return f"cuda:{self.local_rank % torch.cuda.device_count()}" if several else device

    @contextmanager
    def together(self) -> Iterator[Callable[[], None]]:
        """Within it, a function that waits until every process of the run has called it."""
        if self.world == 1:
            yield lambda: None
            return
        torch.distributed.init_process_group("gloo", timeout=MAX_WAIT)
        try:
            yield _wait_for_all
        finally:
            torch.distributed.destroy_process_group()


def _wait_for_all() -> None:
    torch.distributed.barrier()


@dataclass(frozen=True)
class Outcome:
    """What a run of predictions gave, those of earlier, interrupted runs in the same folder included.

    Attributes:
        verdicts: how many files have each; `unreadable` for those without.
        unlike_training: how many are.
        worst: paths of the images that the model is least sure of.
    """

    verdicts: dict[str, int]
    unlike_training: int
    worst: list[str]

    @property
    def num_unreadable(self) -> int:
        return self.verdicts.get(UNREADABLE, 0)


def predict_into(
    folder: Path,
    predictor: Predictor,
    paths: Sequence[str],
    base: str,
    *,
    resume: bool = False,
    sort_into: Path | None = None,
    share: Share = Share(),
) -> Outcome | None:
    """Writes `predictions.jsonl`, `predictions.csv` and `judged_by.json` into a folder.

    Args:
        folder: an existing folder; empty unless `resume`.
        predictor: judges.
        paths: N absolute paths.
        base: the folder below which `sort_into` names them.
        resume: goes on where an interrupted run of the same model stopped; files that could not be read are tried
            again.
        sort_into: a folder that gets a copy of each file below its verdict.
        share: what this process does; the first one merges.

    Returns:
        What was found; None in a process that is not the first.

    Raises:
        InputError: nothing can be written; another process does already; the folder is another model's.
    """
    classes = predictor.facts.classes
    with share.together() as wait, _alone(folder, share):
        if share.rank == 0:
            _check_model(folder, predictor.facts)
            gather_rows(folder, classes)
        wait()
        own = folder / f"{NAME}.jsonl"
        done = {row["path"] for row in read_rows(own)} if resume else set()
        left = [path for path in paths if path not in done][share.rank :: share.world]
        # All have read what is done before the first one adds to it.
        wait()
        predictions = predictor.predict_files(left)
        shown = watch(predictions, len(left), "predicting") if share.rank == 0 else predictions
        with PredictionWriter(folder, classes, NAME if share.world == 1 else f"{PART}{share.rank}") as writer:
            for prediction in shown:
                if sort_into:
                    copy_sorted(prediction, base, sort_into)
                writer.write(prediction)
        wait()
        if share.rank:
            return None
        if share.world > 1:
            merge_parts(folder, classes)
        return _summarise(read_rows(own), classes)


@contextmanager
def _alone(folder: Path, share: Share) -> Iterator[None]:
    """Within it, no other run writes to the folder."""
    if share.rank:
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another weldnet-predict writes to {folder}; wait for it, or name another folder") from error
    except OSError as error:
        raise InputError(f"output_dir={folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _check_model(folder: Path, facts: ModelFacts) -> None:
    """Notes which model writes here; refuses another one than before."""
    file = folder / "judged_by.json"
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            same = (before["digest"], before["runtime"]) == (facts.digest, facts.runtime)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise InputError(
                f"output_dir={folder} holds predictions of another model or precision; name another folder"
            )
    elif any(folder.glob(f"{NAME}*")):
        raise InputError(
            f"output_dir={folder} holds predictions, but no judged_by.json that says whose; name another folder"
        )
    write_text(file, json.dumps(facts.to_dict(), indent=2) + "\n")


def _summarise(rows: Iterable[Row], classes: Sequence[str]) -> Outcome:
    verdicts: Counter[str] = Counter()
    unlike = 0

    def look() -> Iterator[tuple[float, str]]:
        nonlocal unlike
        for row in rows:
            verdicts[row["verdict"] or UNREADABLE] += 1
            unlike += bool(row["unlike_training"])
            if row["error"] is None:
                yield max(row[f"p_{name}"] for name in classes), row["path"]

    worst = heapq.nsmallest(NUM_WORST, look())
    return Outcome(dict(verdicts), unlike, [path for _, path in worst])


def copy_sorted(prediction: Prediction, base: str, folder: Path) -> None:
    """Copies a file to `folder/<verdict>/<its path below base>`, under a temporary name first.

    Raises:
        InputError: the copy cannot be written.
    """
    target = folder / (prediction.verdict or UNREADABLE) / os.path.relpath(prediction.path, base)
    temporary = target.with_name(f".{target.name}.tmp")
    if not os.path.isfile(prediction.path):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(prediction.path, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"sort_into: {target} cannot be written: {error.strerror}") from error


def check_request(explain: str, sort_into: Path | None, resume: bool, source: str) -> None:
    """Raises:
    InputError: no such choice of images to explain; the copies would land among the source's files or other files.
    """
    check_choice("explain", explain, EXPLAIN)
    if sort_into is None:
        return
    place = Path(os.path.abspath(os.path.expanduser(source)))
    if place.is_dir() and sort_into.resolve().is_relative_to(place.resolve()):
        raise InputError(f"sort_into={sort_into} lies in the source, where the copies would be found next time")
    if sort_into.exists() and not sort_into.is_dir():
        raise InputError(f"sort_into={sort_into} is a file; name a folder")
    if not resume and sort_into.is_dir() and any(sort_into.iterdir()):
        raise InputError(f"sort_into={sort_into} is not empty, and nothing is overwritten; name another folder")
