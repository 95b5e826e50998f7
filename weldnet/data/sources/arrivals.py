"""The photographs that are written into a folder, each once it is complete, found by looking again and again."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from weldnet.data.sources.folders import check_names
from weldnet.data.sources.found import Skipped, explain_folder, take_photographs
from weldnet.errors import InputError
from weldnet.files import find_leaving
from weldnet.spelling import make_visible

log = logging.getLogger(__name__)

PATIENCE = 10
"""Looks in which a file is unchanged, after which it is taken even if it cannot be read or is damaged."""

BEING_WRITTEN = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download", "~")
"""Endings that programs give to a file until it is complete."""


class State(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Arrival:
    """A photograph that looks complete; `is_last` where it does not change even though it may be damaged."""

    path: str
    state: State
    is_last: bool

    def is_unchanged(self) -> bool:
        """Whether the file is still as it was found."""
        try:
            return _read_state(self.path) == self.state
        except OSError:
            return False


class Taken(NamedTuple):
    """What was taken: its state, None where that is unknown, and what stands for its content."""

    state: State | None
    content: str | None


class Arrivals:
    """Finds what is new or written again in a folder and all folders below it.

    A file looks complete where two looks find the same size and times, or at the first one where its inode changed
    after its content: then it was renamed into place. Hidden files and folders, those that a NAS keeps for itself,
    names of `BEING_WRITTEN`, and links that leave the folder are skipped.

    Attributes:
        taken: what was taken of each file that is still there.
        waiting: the others, with their state and the looks that found them in it.
        is_new_drive: whether the last look found files on a different drive than the first one.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.device = folder, os.stat(folder).st_dev
        self.taken: dict[str, Taken] = {}
        self.waiting: dict[str, tuple[State, int]] = {}
        self.other: dict[str, State] = {}
        self.errors: list[str] = []
        self.is_new_drive = False

    def look(self) -> list[Arrival]:
        """What looks complete now and is not taken, the oldest first."""
        found = self.find()
        # Where not all can be listed, nothing is known to be gone.
        if not self.errors:
            known: dict[str, Any]
            for known in (self.taken, self.waiting, self.other):
                for path in known.keys() - found.keys():
                    del known[path]
        arrivals = []
        for path, state in sorted(found.items(), key=lambda item: (item[1].mtime_ns, item[0])):
            taken = self.taken.get(path)
            if self.other.get(path) == state or (taken and taken.state == state):
                continue
            if not self._is_wanted(path):
                self.other[path] = state
                continue
            before, looks = self.waiting.get(path, (None, 0))
            looks = looks + 1 if state == before else 1
            self.waiting[path] = (state, looks)
            is_moved = state.ctime_ns > state.mtime_ns
            if looks in (2, PATIENCE) or (looks == 1 and is_moved):
                arrivals.append(Arrival(path, state, looks == PATIENCE))
        return arrivals

    def take(self, arrival: Arrival, content: str | None) -> bool:
        """Does not find a file again unless it changes; whether its content is new under its name."""
        before = self.taken.get(arrival.path)
        self.taken[arrival.path] = Taken(arrival.state, content)
        self.waiting.pop(arrival.path, None)
        return before is None or before.content != content

    def find(self) -> dict[str, State]:
        """The files there are; what cannot be listed is warned of, once until it can."""
        before, self.errors, self.is_new_drive = self.errors, [], False
        try:
            found, device = dict(self._walk()), os.stat(self.folder).st_dev
            # A drive that is not mounted leaves an empty folder; mounted again, it may have a different number.
            if device != self.device:
                if not found:
                    raise OSError(0, "a different drive is there, without a file", self.folder)
                self.device, self.is_new_drive = device, True
        except OSError as error:
            self._note(error)
            found = {}
        for message in sorted({*self.errors} - {*before}):
            log.warning("%s; looking again", message)
        return found

    def _walk(self) -> Iterator[tuple[str, State]]:
        for where, folders, names in os.walk(self.folder, onerror=self._note):
            folders[:] = [name for name in folders if not explain_folder(os.path.join(where, name))]
            for name in names:
                if not name.startswith(".") and not name.lower().endswith(BEING_WRITTEN):
                    path = os.path.join(where, name)
                    try:
                        yield path, _read_state(path)
                    except OSError as error:
                        self._note(error)

    def _note(self, error: OSError) -> None:
        # What was moved away meanwhile is not missed, but for the folder itself.
        if not isinstance(error, FileNotFoundError) or error.filename == self.folder:
            self.errors.append(f"{make_visible(str(error.filename))}: {str(error.strerror).lower()}")

    def _is_wanted(self, path: str) -> bool:
        try:
            check_names([path])
        except InputError as error:
            log.warning("%s", error)
            return False
        if reason := find_leaving(Path(self.folder))(path):
            log.warning("%s: skipped: %s", make_visible(path), make_visible(reason))
            return False
        return bool(take_photographs([path], Skipped(), unread=True))


def _read_state(path: str) -> State:
    found = os.stat(path)
    return State(found.st_size, found.st_mtime_ns, found.st_ctime_ns)
