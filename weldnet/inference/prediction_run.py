"""From a source to files of predictions: streamed, resumable, by one process or several."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from weldnet.console import watch
from weldnet.data.decode.formats import read_content
from weldnet.data.decode.pictures import UnreadableImage
from weldnet.errors import InputError, check_choice
from weldnet.files import lock_folder, replace_file, write_json
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction
from weldnet.inference.prediction_files import LINES, PART, UNREADABLE, Outcome, append_rows, gather_rows, write_table
from weldnet.inference.predictor import Predictor

EXPLAIN = ("none", "worst", "all")
JUDGED_BY = "judged_by.json"
"""In a folder of predictions: their model."""

MAX_WAIT = timedelta(days=7)
"""How long a process that is done waits for the others."""


@dataclass(frozen=True)
class Share:
    """The share of the work that this process does: every `world`-th image, from the `rank`-th on."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_torchrun(cls) -> "Share":
        """The share by torchrun's environment variables; without them, all of the work."""
        values = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
        return cls(*map(int, values)) if all(value.isdecimal() for value in values) else cls()

    def choose_device(self, device: str) -> str:
        """`auto` as this process's own GPU, where there are several processes and GPUs; else `device` as it is."""
        if self.world == 1 or device != "auto":
            return device
        import torch

        return f"cuda:{self.local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else device

    @contextmanager
    def together(self) -> Iterator[Callable[[Any], list[Any]]]:
        """A context with a function that waits until every process has called it, and returns all their arguments."""
        if self.world == 1:
            yield lambda value: [value]
            return
        # One process needs no torch; torchrun comes with it.
        import torch.distributed

        def gather(value: Any) -> list[Any]:
            values = [None] * self.world
            torch.distributed.all_gather_object(values, value)
            return values

        torch.distributed.init_process_group("gloo", timeout=MAX_WAIT)
        try:
            yield gather
        finally:
            torch.distributed.destroy_process_group()


ALONE = Share()


def predict_into(
    folder: Path,
    predictor: Predictor,
    paths: Sequence[str],
    base: str,
    *,
    sort_into: Path | None = None,
    share: Share = ALONE,
) -> Outcome | None:
    """Writes `predictions.jsonl`, `predictions.csv` and `judged_by.json` into a folder, which is empty or such a run's.

    Resumes an interrupted run of the same model; files that could not be read are tried again. A folder to which a
    different process writes, or that belongs to a different model, is an InputError.

    Args:
        paths: absolute; those of the first process count.
        base: the folder below which they are named, see `weldnet.data.sources.selection.find_base`.
        sort_into: a folder that gets a copy of each file below its verdict.
        share: what this process does; the first one merges, and the others return None.
    """
    facts = predictor.facts
    with share.together() as gather, nullcontext() if share.rank else lock_folder(folder):
        if len(models := set(gather(_name_model(facts.digest, facts.runtime)))) > 1:
            raise InputError(f"the processes run different models or precisions: {', '.join(sorted(models))}")
        left: Sequence[str] = ()
        if share.rank == 0:
            claim(folder, facts, base, sort_into)
            done = gather_rows(folder, set(paths))
            left = [path for path in paths if path not in done]
        # One list for all: a folder that grows, or that another machine sees late, would be shared out wrongly.
        left = gather(left)[0][share.rank :: share.world]
        predictions = predictor.predict_files(left)
        if share.rank == 0:
            predictions = watch(predictions, len(left), "predicting")
        with append_rows(folder / (LINES if share.world == 1 else f"{PART}{share.rank}.jsonl")) as append:
            for prediction in predictions:
                if sort_into:
                    copy_sorted(prediction, base, sort_into)
                append(prediction.to_row(facts.classes))
        gather(None)
        if share.rank:
            return None
        if share.world > 1:
            gather_rows(folder)
        return write_table(folder, facts.classes, set(paths))


def _name_model(digest: str, runtime: str) -> str:
    """The model, and what runs it in which precision, wherever it runs."""
    return f"{digest[:12]} by {runtime.partition(' on ')[0]}"


def claim(folder: Path, facts: ModelFacts, base: str, sort_into: Path | None) -> None:
    """Notes which model writes here, and what becomes of the files; refuses a different one than before."""
    file, task = folder / JUDGED_BY, {"base": base, "sort_into": None if sort_into is None else str(sort_into)}
    if not file.exists():
        if any(folder.glob("predictions*")):
            raise InputError(
                f"output_dir={folder} holds predictions, but no {JUDGED_BY} with their model; name a different folder"
            )
        write_json(file, facts.model_dump(mode="json") | {"task": task})
        return
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        before = {"model": _name_model(noted["digest"], noted["runtime"])} | noted["task"]
        now = {"model": _name_model(facts.digest, facts.runtime)} | task
        differing = [f"{key}={before[key]}, not {value}" for key, value in now.items() if before[key] != value]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{file} is damaged; name a different output_dir") from None
    if differing:
        raise InputError(
            f"output_dir={folder} holds predictions of a different model, precision, base folder or sort_into "
            f"({'; '.join(differing)}); name a different folder"
        )


def can_resume(folder: Path) -> bool:
    """Whether a run stopped here, however early."""
    ignored = {".lock", f".{JUDGED_BY}.tmp"}
    return (folder / JUDGED_BY).is_file() or (folder.is_dir() and {path.name for path in folder.iterdir()} <= ignored)


def copy_sorted(prediction: Prediction, base: str, folder: Path) -> None:
    """Copies a file to `folder/<verdict>/<its path below base>`, under a temporary name first.

    A file that cannot be read has no copy. A process that was killed at a copy does it again, as the
    row comes after it.
    """
    name = os.path.relpath(prediction.path, base)
    target = folder / (prediction.verdict or UNREADABLE) / name
    try:
        content = read_content(prediction.path)
    except UnreadableImage:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not flushed: the original is still there, and a disk takes many times as long for it as for the verdict.
    with replace_file(target, flush=False) as temporary:
        temporary.write_bytes(content)
    if prediction.verdict:
        # It may have been unreadable when an earlier run saw it.
        (folder / UNREADABLE / name).unlink(missing_ok=True)


def check_request(explain: str, sort_into: Path | None, resume: bool) -> None:
    """Refuses an unknown choice of images to explain, and copies that would land among other files."""
    check_choice("explain", explain, EXPLAIN)
    if sort_into is None:
        return
    if sort_into.exists() and not sort_into.is_dir():
        raise InputError(f"sort_into={sort_into} is a file; name a folder")
    if not resume and sort_into.is_dir() and any(sort_into.iterdir()):
        raise InputError(f"sort_into={sort_into} is not empty, and nothing is overwritten; name a different folder")
