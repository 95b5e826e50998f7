"""The record of what was decided: JSON lines, written before any answer leaves."""

import errno
import fcntl
import json
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from weldnet.errors import InputError
from weldnet.files import describe_room
from weldnet.inference.engines import ModelFacts
from weldnet.inference.predictor import Prediction

START = b'{"time"'
"""Of every line."""

_HEAD_BYTES = 2**16


class DecisionRecords:
    """Appends decisions to a file, a line each. Close it, or use it as a context manager.

    A line holds `time`, `request_id`, `file`, `sha256`, `model_digest`, `runtime`, `accept_above`, `reject_below`,
    `predicted`, `verdict`, `unlike_training`, `damaged`, `probabilities` and `error`. A killed process loses none of
    them; a power cut may, as the file is not synced with the disk.

    Args:
        file: is made, or appended to.
        facts: of the model that decides.

    Raises:
        InputError: the file cannot be written, is no regular file, holds something else, or another server writes it;
            the disk is full.
    """

    def __init__(self, file: Path, facts: ModelFacts) -> None:
        self.facts, self.lock = facts, threading.Lock()
        try:
            self.descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"the decisions cannot be recorded in {file}: {error.strerror}; {describe_room(file)} (serve.records)"
            ) from error
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            self.close()
            # A pipe or a terminal would let every request wait for its reader.
            raise InputError(f"the decisions cannot be recorded in {file}: not a regular file (serve.records)")
        if _is_taken(self.descriptor):
            self.close()
            raise InputError(
                f"another server records its decisions in {file}; give this one a file of its own (serve.records)"
            )
        state = os.fstatvfs(self.descriptor)
        if state.f_bavail * state.f_frsize < _HEAD_BYTES:
            self.close()
            # It would answer no request.
            raise InputError(
                f"the decisions cannot be recorded in {file}: the disk is full; {describe_room(file)} (serve.records)"
            )
        head = os.pread(self.descriptor, _HEAD_BYTES, 0)
        # The very first line may be cut off.
        if not (START.startswith(head.rstrip(b"\n")) or any(map(_is_decision, head.split(b"\n")[:2]))):
            self.close()
            raise InputError(f"{file} holds something else than decisions; nothing is added to it (serve.records)")
        self.is_cut_off = _ends_within_a_line(self.descriptor)

    def __enter__(self) -> "DecisionRecords":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def append(self, request_id: str, predictions: Sequence[Prediction]) -> None:
        """Writes the decisions of one request in one piece.

        Raises:
            OSError: they could not all be written; a line that was cut off is ended before the next one.
        """
        lines = "".join(self._to_line(request_id, prediction) for prediction in predictions).encode()
        with self.lock:
            content = b"\n" * self.is_cut_off + lines
            written = os.write(self.descriptor, content)
            self.is_cut_off = 0 < written < len(content) or (self.is_cut_off and not written)
        if written < len(content):
            raise OSError("the disk is full")

    def _to_line(self, request_id: str, prediction: Prediction) -> str:
        said, point = prediction, self.facts.point
        fields = {
            "time": said.time,
            "request_id": request_id,
            "file": said.path,
            "sha256": said.sha256,
            "model_digest": said.model_digest,
            "runtime": self.facts.runtime,
            "accept_above": point.accept_above,
            "reject_below": point.reject_below,
            "predicted": said.predicted,
            "verdict": said.verdict,
            "unlike_training": said.unlike_training,
            "damaged": said.damaged,
            "probabilities": said.probabilities,
            "error": said.error,
        }
        return json.dumps(fields, allow_nan=False) + "\n"


def _is_taken(descriptor: int) -> bool:
    """Whether another process holds the lock of the file; if not, this one does until it closes it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks.
        return error.errno == errno.EWOULDBLOCK
    return False


def _is_decision(line: bytes) -> bool:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        # Cut off, by a full disk or by the end of what was read.
        return line.startswith(START)
    return isinstance(fields, dict) and fields.keys() >= {"time", "sha256", "model_digest", "verdict"}


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
