#!/usr/bin/env python3
"""Where the time of a command goes: what its main thread is in, fifty times a second.

scripts/sampling.py weldnet-train experiment=demo trainer=gpu
"""

import importlib
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType


class Sampling:
    """Within it, a thread notes which functions the calling thread is in."""

    def __init__(self, interval_s: float = 0.02) -> None:
        self.interval_s, self.num_samples = interval_s, 0
        self.within: Counter[str] = Counter()
        self.at: Counter[str] = Counter()
        self.stopped = threading.Event()

    def __enter__(self) -> "Sampling":
        self.started, self.watched = time.perf_counter(), threading.get_ident()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self.started
        self.stopped.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stopped.wait(self.interval_s):
            # The documented way to another thread's stack, in spite of its name.
            frame: FrameType | None = sys._current_frames().get(self.watched)  # noqa: SLF001
            names = []
            while frame is not None:
                file = frame.f_code.co_filename
                names.append(f"{'/'.join(Path(file).parts[-3:])}:{frame.f_lineno} {frame.f_code.co_name}")
                frame = frame.f_back
            self.num_samples += 1
            self.at.update(names[:1])
            self.within.update({name for name in names if "weldnet/" in name})

    def describe(self, number: int) -> str:
        """Seconds within weldnet's functions, and at the innermost line of all, the most first."""
        lines = [f"{self.seconds:.1f} s, {self.num_samples} samples"]
        for title, counts in (("within", self.within), ("at", self.at)):
            for name, count in counts.most_common(number):
                lines.append(f"  {title:6} {count / max(1, self.num_samples) * self.seconds:6.1f} s  {name}")
        return "\n".join(lines)


if __name__ == "__main__":
    command, sys.argv = sys.argv[1].removeprefix("weldnet-"), sys.argv[1:]
    with Sampling() as sampling:
        try:
            importlib.import_module(f"weldnet.commands.{command}").main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
    print(sampling.describe(40))
    sys.exit(code)  # type: ignore[arg-type]
