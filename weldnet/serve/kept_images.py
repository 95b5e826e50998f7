"""The photographs of the last decisions, on disk within bounds until they are reviewed; those of reviewed ones stay."""

import hashlib
import json
import logging
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from weldnet.data.decode.signatures import FORMAT_ENDINGS, HEAD, find_format
from weldnet.errors import InputError
from weldnet.files import lock_folder, move_into_place, remove_leftovers, replace_file
from weldnet.inference.prediction import Prediction
from weldnet.serve.uploads import Upload

log = logging.getLogger(__name__)

RECENT, REVIEWED = "recent", "reviewed"
"""The folders of photographs that wait for a review, and of those that have one."""

LOCK_SECONDS = 1.0
"""How long one thread waits for others."""

_NAME = re.compile(r"(?P<decision>[0-9a-f]{32})-(?P<sha256>[0-9a-f]{64})(\.[a-z]+)?")


class KeptImages(ExitStack):
    """Photographs below a folder, which one server at a time fills. Close it, or use it as a context manager.

    `recent/` holds those of decisions, of which the oldest go once all together have `max_bytes`. A review moves one to
    `reviewed/`, from which nothing is deleted: where these alone have `max_bytes`, no more are held, and the log warns.
    A file's name is made of digests alone, and no client chooses a part of it. A folder that a different server fills,
    or `max_bytes` that are no number above 0, are an InputError.
    """

    def __init__(self, folder: Path, max_bytes: float) -> None:
        super().__init__()
        if not 0 < max_bytes < math.inf:
            raise InputError(f"serve.keep_images_mb={max_bytes / 1e6:g}: allowed are numbers above 0")
        self.folder, self.max_bytes, self.lock = folder, max_bytes, threading.Lock()
        self.enter_context(lock_folder(folder))
        for name in (RECENT, REVIEWED):
            (folder / name).mkdir(exist_ok=True)
            remove_leftovers(folder / name)
        # Name to bytes, the oldest first.
        self.recent, self.reviewed = _measure(folder / RECENT), _measure(folder / REVIEWED)
        self.recent_bytes, self.reviewed_bytes = sum(self.recent.values()), sum(self.reviewed.values())
        self.full_at = -1

    def hold(self, request_id: str, uploads: Sequence[Upload], predictions: Sequence[Prediction]) -> None:
        """Holds the photographs of a request's decisions until they are reviewed, or make room for later ones.

        An OSError where one cannot be written; a TimeoutError where the disk is still at work on earlier ones.
        """
        with self._work_alone():
            for upload, prediction in zip(uploads, predictions, strict=True):
                if prediction.error is None:
                    ending = FORMAT_ENDINGS.get(find_format(upload.content[:HEAD]), ("",))[0]
                    self._write(f"{name_decision(request_id, upload.name)}-{prediction.sha256}{ending}", upload.content)

    @contextmanager
    def _work_alone(self) -> Iterator[None]:
        # Where a disk hangs, one thread waits for it, and not all of them until none is left to record decisions.
        if not self.lock.acquire(timeout=LOCK_SECONDS):
            raise TimeoutError
        try:
            yield
        finally:
            self.lock.release()

    def _write(self, name: str, content: bytes) -> None:
        if name in self.recent or name in self.reviewed:
            return
        room = self.max_bytes - self.reviewed_bytes - len(content)
        if room < 0:
            # Once, until more are reviewed.
            if self.full_at != self.reviewed_bytes:
                self.full_at = self.reviewed_bytes
                log.warning(
                    "a photograph of %s bytes has no room beside %s bytes of reviewed ones, and is not kept; raise "
                    "serve.keep_images_mb, or move those in %s away and restart",
                    *(f"{len(content):,}", f"{self.reviewed_bytes:,}", self.folder / REVIEWED),
                )
            return
        while self.recent_bytes > room:
            oldest = next(iter(self.recent))
            (self.folder / RECENT / oldest).unlink(missing_ok=True)
            self.recent_bytes -= self.recent.pop(oldest)
        # Not flushed: most of them are never reviewed.
        with replace_file(self.folder / RECENT / name, flush=False) as temporary:
            temporary.write_bytes(content)
        self.recent[name] = len(content)
        self.recent_bytes += len(content)

    def keep(self, request_id: str, file: str) -> None:
        """Keeps the photograph of a reviewed decision for good; warns where there is none, or more than one."""
        decision = name_decision(request_id, file)
        with self._work_alone():
            found = [name for name in (*self.recent, *self.reviewed) if name.startswith(decision)]
            if len(found) != 1:
                why = "is here no longer" if not found else "is one of several with this request_id and file"
                fields = {"fields": {"request_id": request_id}}
                log.warning("the photograph of a review %s, and is not kept", why, extra=fields)
            elif found[0] in self.recent:
                move_into_place(self.folder / RECENT / found[0], self.folder / REVIEWED / found[0])
                size = self.reviewed[found[0]] = self.recent.pop(found[0])
                self.recent_bytes, self.reviewed_bytes = self.recent_bytes - size, self.reviewed_bytes + size


def name_decision(request_id: str, file: str) -> str:
    """32 hex digits that stand for a decision, however a client names its requests and files."""
    return hashlib.sha256(json.dumps([request_id, file]).encode()).hexdigest()[:32]


def _measure(folder: Path) -> dict[str, int]:
    """Name to bytes of the photographs in `recent/` or `reviewed/`, the oldest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    states = {path.name: path.stat() for path in found}
    return {name: states[name].st_size for name in sorted(states, key=lambda name: states[name].st_mtime_ns)}


def find_reviewed(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Decision (see `name_decision`), SHA-256 and path of each photograph in `reviewed/`."""
    for path in sorted((folder / REVIEWED).iterdir()):
        if found := _NAME.fullmatch(path.name):
            yield found["decision"], found["sha256"], path
