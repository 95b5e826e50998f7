"""Photographs judged as they arrive in a folder, until a stop is requested."""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from weldnet.data.sources.arrivals import Arrival, Arrivals, State, Taken
from weldnet.errors import InputError
from weldnet.files import lock_folder
from weldnet.inference.notifier import Notifier
from weldnet.inference.prediction import Prediction
from weldnet.inference.prediction_files import (
    LINES,
    TABLE,
    UNREADABLE,
    Outcome,
    append_rows,
    gather_rows,
    read_rows,
    to_table,
    write_table,
)
from weldnet.inference.prediction_run import claim, copy_sorted
from weldnet.inference.predictor import Predictor
from weldnet.inference.settings import NotifySettings
from weldnet.spelling import make_visible


class Watched(NamedTuple):
    """What a watch gave: of all rows in its folder, of its calls, and the files that were not complete at its end."""

    outcome: Outcome
    made: int
    failed: int
    owed: int
    incomplete: list[str]


class FolderWatch(ExitStack):
    """Judges each photograph once it is complete, and appends it to `predictions.jsonl` and `predictions.csv`.

    One that is written again is judged again, and has a further row, unless its content is the same.
    Use it as a context manager.

    Args:
        folder, sort_into: as `weldnet.inference.prediction_run.predict_into` takes them, and refuses the folder.
        source: the folder that is watched, absolute; an InputError where a part of it cannot be read.
    """

    def __init__(
        self, folder: Path, predictor: Predictor, source: str, notify: NotifySettings, *, sort_into: Path | None = None
    ) -> None:
        super().__init__()
        self.folder, self.predictor, self.source, self.sort_into = folder, predictor, source, sort_into
        self.arrivals, self.classes = Arrivals(source), predictor.facts.classes
        self.enter_context(lock_folder(folder))
        self.notifier = Notifier(notify, folder)
        claim(folder, predictor.facts, source, sort_into)
        gather_rows(folder)
        # It may lack rows, or end within one.
        write_table(folder, self.classes, ())
        found = self.arrivals.find()
        if self.arrivals.errors:
            raise InputError(f"source={source}: {'; '.join(self.arrivals.errors)}")
        self._recall(found)
        self.enter_context(self.notifier)
        self.notifier.submit_owed()

    def _recall(self, found: Mapping[str, State]) -> None:
        """Takes the files that have a row, but for those that have changed since."""
        for row in read_rows(self.folder / LINES):
            if state := found.get(row["path"]):
                judged_ns = datetime.fromisoformat(row["time"]).timestamp() * 1e9
                is_known = row["error"] is None and state.ctime_ns <= judged_ns
                content = row["sha256"] or row["error"]
                self.arrivals.taken[row["path"]] = Taken(state if is_known else None, content)
                self.arrivals.waiting.pop(row["path"], None)

    def run(self, stop: threading.Event, poll_s: float) -> Watched:
        """Looks every `poll_s` seconds, and less often where a look takes longer, until `stop` is set."""
        while not stop.is_set():
            stop.wait(max(poll_s, self.step(stop)))
        owed, made = self.notifier.finish(), self.notifier.made
        outcome = write_table(self.folder, self.classes, ())
        return Watched(outcome, made[True], made[False], owed, sorted(self.arrivals.waiting))

    def step(self, stop: threading.Event) -> float:
        """Looks once, and judges what is complete; the seconds of the look alone."""
        started = time.monotonic()
        arrivals = {arrival.path: arrival for arrival in self.arrivals.look()}
        if self.arrivals.is_new_drive:
            # Its files may have rows of an earlier run, or from before it was away.
            self._recall(self.arrivals.find())
            arrivals = {}
        seconds = time.monotonic() - started
        if arrivals:
            self._judge(arrivals, stop)
        return seconds

    def _judge(self, arrivals: Mapping[str, Arrival], stop: threading.Event) -> None:
        with (
            append_rows(self.folder / LINES) as append,
            append_rows(self.folder / TABLE, lambda row: to_table([row], self.classes)) as append_cells,
        ):
            for prediction in self.predictor.predict_files(list(arrivals)):
                if self._is_new(prediction, arrivals[prediction.path]):
                    if self.sort_into:
                        copy_sorted(prediction, self.source, self.sort_into)
                    row = prediction.to_row(self.classes)
                    append(row)
                    append_cells(row)
                    self.notifier.submit(row)
                    _show(prediction, self.source)
                if stop.is_set():
                    return

    def _is_new(self, prediction: Prediction, arrival: Arrival) -> bool:
        """Whether a prediction is of a complete file, and of content that is new under its name."""
        is_whole = prediction.error is None and not prediction.damaged
        # What changed while it was read may be half of one photograph and half of the next.
        if not (is_whole or arrival.is_last) or not arrival.is_unchanged():
            return False
        return self.arrivals.take(arrival, prediction.sha256 or prediction.error)


def _show(prediction: Prediction, source: str) -> None:
    name = make_visible(os.path.relpath(prediction.path, source))
    what = prediction.error or f"{prediction.predicted} {prediction.probabilities[prediction.predicted or '']:.1%}"
    print(f"{prediction.verdict or UNREADABLE:<10}  {name}: {what}", flush=True)
