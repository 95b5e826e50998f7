"""Commands in processes of their own, without the seconds that importing torch takes.

`python fork_server.py` imports what every command needs, then forks a child for each line on its standard input; the
child calls the command's real `main` and ends as a console script does. `ForkServer` is the test's side of it.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not polars: it starts threads when it is imported, and a fork would lose them.
IMPORTED = (
    *("torch", "torchvision.transforms.v2", "lightning.pytorch.callbacks", "lightning.pytorch.loggers"),
    *("torch.utils.tensorboard", "torchmetrics", "captum.attr", "scipy.stats", "sklearn.tree", "matplotlib.figure"),
    *("hydra", "jinja2", "PIL.Image", "pydicom", "rich.console", "weldnet.commands.train"),
)
MAX_PROCESSES = 24
"""A child that has more is ended: on a machine with more cores than that, tests ask for fewer."""


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit code; the negative number of the signal that ended it.
        seconds: how long it ran.
        growth_mb: how much its memory grew at its peak.
        over: the bound that it went over and was ended for, `time` or `processes`; empty for none.
        out, err: what it printed.
    """

    code: int
    seconds: float
    growth_mb: float
    over: str
    out: str
    err: str


class ForkServer:
    """A context in which `run` runs commands."""

    def __enter__(self) -> "ForkServer":
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, __file__]
        self._server = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *error: object) -> None:
        # Without its standard input the server ends, once its child has.
        self._server.communicate()
        self._folder.cleanup()

    def run(
        self,
        folder: Path,
        command: str,
        *arguments: str,
        kill_after_s: float | None = None,
        kill_by: signal.Signals = signal.SIGKILL,
        limit_s: float = 120.0,
        environment: dict[str, str] | None = None,
    ) -> Done:
        """`weldnet-<command> ...` with `folder` as its current one; ended by a signal after so many seconds."""
        out, err = (Path(self._folder.name, name) for name in ("out", "err"))
        task = {
            "folder": str(folder),
            "command": command,
            "arguments": arguments,
            "kill_after_s": kill_after_s,
            "kill_by": int(kill_by),
            "limit_s": limit_s,
            "environment": environment or {},
            "out": str(out),
            "err": str(err),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        ended = json.loads(self._server.stdout.readline())
        printed, error_text = (file.read_text("utf-8", errors="replace") for file in (out, err))
        return Done(**ended, out=printed, err=error_text)


def serve() -> Callable[[], None]:
    """Forks for each task; in the child, returns the function to call.

    The child leaves the loop, so that its end is that of any program: exit handlers, flushes, tracebacks.
    """
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            return _become(task)
        print(json.dumps(_watch(child, task)), flush=True)
    sys.exit()


def _become(task: dict[str, Any]) -> Callable[[], None]:
    # A group of its own, so that what it starts can be ended with it.
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    streams = [(os.devnull, os.O_RDONLY), (task["out"], flags), (task["err"], flags)]
    for descriptor, (name, how) in enumerate(streams):
        os.dup2(os.open(name, how, 0o600), descriptor)
    os.environ.update(task["environment"])
    tempfile.tempdir = None
    os.chdir(task["folder"])
    sys.argv = [f"weldnet-{task['command']}", *task["arguments"]]
    main: Callable[[], None] = importlib.import_module(f"weldnet.commands.{task['command']}").main
    return main


def _watch(child: int, task: dict[str, Any]) -> dict[str, Any]:
    """Sends the signal when its time has come, keeps the child to its bounds, and reports how it ended."""
    started, before_mb, over = time.monotonic(), _resident_mb(), ""
    kill_at = float("inf") if task["kill_after_s"] is None else started + task["kill_after_s"]
    handle = os.pidfd_open(child)
    while not select.select([handle], [], [], max(0.0, min(0.05, kill_at - time.monotonic())))[0]:
        now = time.monotonic()
        if now >= kill_at:
            os.kill(child, task["kill_by"])
            kill_at = float("inf")
        too_many = _count_children(child) > MAX_PROCESSES
        if too_many or now - started > task["limit_s"]:
            over = "processes" if too_many else "time"
            os.killpg(child, signal.SIGKILL)
    os.close(handle)
    _, status, used = os.wait4(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "growth_mb": used.ru_maxrss / 1024 - before_mb,
        "over": over,
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _count_children(parent: int) -> int:
    try:
        return len(Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    except OSError:
        return 0


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork of a process with threads can hang"
    serve()()
