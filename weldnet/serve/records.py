"""The record of what was decided: JSON lines, written before any answer leaves."""

import errno
import fcntl
import json
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from weldnet.errors import InputError
from weldnet.files import describe_room
from weldnet.inference.model_card import ModelFacts
from weldnet.inference.prediction import Prediction
from weldnet.serve.answers import Review

START = b'{"time"'
"""Of every line."""
REVIEW = "review"
"""The `kind` of a line that holds what a person thinks of a decision."""

_HEAD_BYTES = 2**16


class DecisionRecords(ExitStack):
    """Appends decisions to a file, a line each. Close it, or use it as a context manager.

    A line holds `time`, `kind` (`decision`), `request_id`, `reference`, `model_digest`, `runtime`, `accept_above`,
    `reject_below` and the fields of a `Prediction`. A killed process loses none of them; a power cut may, as the file
    is not synced with the disk. A file that nothing can be appended to is an InputError.
    """

    def __init__(self, file: Path, facts: ModelFacts) -> None:
        super().__init__()
        self.facts, self.lock = facts, threading.Lock()
        try:
            self.descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _refuse(file, f"{error.strerror}; {describe_room(file)}") from error
        self.callback(os.close, self.descriptor)
        if obstacle := _find_obstacle(self.descriptor, file):
            self.close()
            raise _refuse(file, obstacle)
        size = os.fstat(self.descriptor).st_size
        self.is_cut_off = size > 0 and os.pread(self.descriptor, 1, size - 1) != b"\n"

    def append(self, request_id: str, predictions: Sequence[Prediction], reference: str | None = None) -> None:
        """Writes the decisions of one request in one piece.

        An OSError where they could not all be written; a line that was cut off is ended before the next one.
        """
        self._write("".join(self._to_line(request_id, prediction, reference) for prediction in predictions).encode())

    def append_review(self, review: Review) -> None:
        """Writes what a person thinks of a decision, `kind` `review`; raises as `append` does."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"time": time, "kind": REVIEW, "model_digest": self.facts.digest}
        self._write((json.dumps(fields | review.model_dump()) + "\n").encode())

    def _write(self, lines: bytes) -> None:
        with self.lock:
            content = b"\n" * self.is_cut_off + lines
            written = os.write(self.descriptor, content)
            self.is_cut_off = 0 < written < len(content) or (self.is_cut_off and not written)
        if written < len(content):
            raise OSError("the disk is full")

    def _to_line(self, request_id: str, prediction: Prediction, reference: str | None) -> str:
        fields = {
            "time": prediction.time,
            "kind": "decision",
            "request_id": request_id,
            "reference": reference,
            "model_digest": prediction.model_digest,
            "runtime": self.facts.runtime,
            "accept_above": self.facts.point.accept_above,
            "reject_below": self.facts.point.reject_below,
        }
        return json.dumps(fields | prediction.model_dump(by_alias=True), allow_nan=False) + "\n"


def _refuse(file: Path, reason: str) -> InputError:
    return InputError(f"the decisions cannot be recorded in {file}: {reason} (serve.records)")


def _find_obstacle(descriptor: int, file: Path) -> str | None:
    """Why decisions cannot be appended to an open file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        # A pipe or a terminal would let every request wait for its reader.
        return "not a regular file"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks.
        if error.errno == errno.EWOULDBLOCK:
            return "a different server records its decisions there; give this one a file of its own"
    state = os.fstatvfs(descriptor)
    if state.f_bavail * state.f_frsize < _HEAD_BYTES:
        # It would answer no request.
        return f"the disk is full; {describe_room(file)}"
    head = os.pread(descriptor, _HEAD_BYTES, 0)
    # The very first line may be cut off.
    if START.startswith(head.rstrip(b"\n")) or any(map(_is_decision, head.split(b"\n")[:2])):
        return None
    return "it holds something other than decisions, and nothing is added to it"


def _is_decision(line: bytes) -> bool:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        # Cut off, by a full disk or by the end of what was read.
        return line.startswith(START)
    if not isinstance(fields, dict):
        return False
    return fields.get("kind") == REVIEW or fields.keys() >= {"time", "sha256", "model_digest", "verdict"}
