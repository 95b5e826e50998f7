"""Commands in processes of their own, without the seconds that importing torch takes.

`python fork_server.py` imports what every command needs, then forks a child for each line on its standard input; the
child calls the command's real `main`, without charts, and ends as a console script does. `ForkServer` is the test's
side of it.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calling import without_charts

IMPORTED = (
    *("torchvision.transforms.v2", "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "timm"),
    *("torch.utils.tensorboard", "captum.attr", "sklearn.tree", "matplotlib.backends.backend_agg"),
    *("matplotlib.backends.backend_svg", "hydra", "pydicom", "rich.progress", "huggingface_hub"),
)
"""What weldnet imports once it needs it."""
IDLE = "polars-ooc-clea"
"""The thread that polars has from its import on. It empties a folder that no test fills, so a fork can lose it."""
ALONE = {"OMP_NUM_THREADS": "1", "_RJEM_MALLOC_CONF": "background_thread:false"}
"""A process with one thread, which is what a fork keeps, and with polars's idle one."""
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


class Forked:
    """A command that `ForkServer.start` has started."""

    def __init__(self, pid: int, files: Sequence[Path]) -> None:
        self.pid, (self._out, self._err, self._ended) = pid, files

    def wait_for(self, text: str, *, error: bool = False) -> str:
        """What it has printed, on standard error if asked for, once a line with this text is whole."""
        line = re.compile(rf"{re.escape(text)}.*\n")
        self.wait_until(lambda: line.search(self.printed(error=error)))
        return self.printed(error=error)

    def wait_until(self, is_there: Callable[[], object]) -> None:
        """Returns once it is; fails if the command ends before."""
        while not is_there():
            assert self.is_alive() or is_there(), f"it has ended: {self.printed()}{self.printed(error=True)}"
            time.sleep(0.01)

    def printed(self, *, error: bool = False) -> str:
        return (self._err if error else self._out).read_text("utf-8", errors="replace")

    def is_alive(self) -> bool:
        return not self._ended.exists()

    def send_signal(self, number: signal.Signals) -> None:
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> Done:
        """How it ended, once it has."""
        while self.is_alive():
            time.sleep(0.01)
        ended = json.loads(self._ended.read_text())
        return Done(**ended, out=self.printed(), err=self.printed(error=True))


class ForkServer:
    """A context in which `run` and `start` run commands."""

    def __enter__(self) -> "ForkServer":
        self._folder, self._num_tasks = tempfile.TemporaryDirectory(), 0
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._server = subprocess.Popen([sys.executable, __file__], env=os.environ | ALONE, **pipes)
        return self

    def __exit__(self, *error: object) -> None:
        # Without its standard input the server ends, once its child has.
        self._server.communicate()
        self._folder.cleanup()

    def run(self, folder: Path, command: str, *arguments: str, **bounds: Any) -> Done:
        """As `start`, to its end."""
        return self._begin(folder, command, arguments, **bounds).wait()

    @contextmanager
    def start(self, folder: Path, command: str, *arguments: str, **bounds: Any) -> Iterator[Forked]:
        """`weldnet-<command> ...` with `folder` as its current one; killed at the end, if it is still there.

        The command `study` is scripts/study.py.

        Args:
            bounds: `environment`, beside that of this process; `kill_after_s` so many seconds it is ended `kill_by` a
                signal; `limit_s`, after which it is killed.
        """
        started = self._begin(folder, command, arguments, **bounds)
        try:
            yield started
        finally:
            started.send_signal(signal.SIGKILL)
            started.wait()

    def _begin(
        self,
        folder: Path,
        command: str,
        arguments: Sequence[str],
        *,
        kill_after_s: float | None = None,
        kill_by: signal.Signals = signal.SIGKILL,
        limit_s: float = 120.0,
        environment: dict[str, str] | None = None,
    ) -> Forked:
        self._num_tasks += 1
        files = [Path(self._folder.name, f"{self._num_tasks}.{name}") for name in ("out", "err", "end")]
        task = {
            "folder": str(folder),
            "command": command,
            "arguments": arguments,
            "kill_after_s": kill_after_s,
            "kill_by": int(kill_by),
            "limit_s": limit_s,
            "environment": os.environ | ALONE | (environment or {}),
            "path": sys.path,
            "files": [str(file) for file in files],
        }
        for file in files[:2]:
            file.touch()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(task) + "\n")
        return Forked(int(self._server.stdout.readline()), files)


def serve() -> Callable[[], None]:
    """Forks twice for each task, the command and who watches it; in the command, returns the function to call.

    The child leaves the loop, so that its end is that of any program: exit handlers, flushes, tracebacks.
    """
    for line in sys.stdin:
        task, before_mb = json.loads(line), _resident_mb()
        if os.fork():
            continue
        child = os.fork()
        if not child:
            return _become(task)
        print(child, flush=True)
        unseen = Path(f"{task['files'][2]}.tmp")
        unseen.write_text(json.dumps(_watch(child, task, before_mb)))
        unseen.rename(task["files"][2])
        os._exit(0)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    sys.exit()


def _become(task: dict[str, Any]) -> Callable[[], None]:
    # A group of its own, so that what it starts can be ended with it.
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    streams = [(os.devnull, os.O_RDONLY), *((file, flags) for file in task["files"][:2])]
    for descriptor, (name, how) in enumerate(streams):
        os.dup2(os.open(name, how, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(task["environment"])
    sys.path[:] = task["path"]
    tempfile.tempdir = None
    os.chdir(task["folder"])
    sys.argv = [str(Path(sys.executable).with_name(f"weldnet-{task['command']}")), *task["arguments"]]
    if task["command"] == "study":
        return lambda: sys.exit(importlib.import_module("study").main(task["arguments"]))
    main: Callable[[], None] = importlib.import_module(f"weldnet.commands.{task['command']}").main
    return main


def _watch(child: int, task: dict[str, Any], before_mb: float) -> dict[str, Any]:
    """Sends the signal when its time has come, keeps the child to its bounds, and reports how it ended."""
    started, over = time.monotonic(), ""
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
    import weldnet

    for name in (*IMPORTED, *(each.name for each in pkgutil.walk_packages(weldnet.__path__, "weldnet."))):
        importlib.import_module(name)
    threads = [Path(f"/proc/self/task/{each}/comm").read_text().strip() for each in os.listdir("/proc/self/task")]
    gc.collect()
    gc.freeze()
    atexit.register(gc.freeze)
    assert set(threads) == {"python", IDLE}, f"a fork of a process with threads can hang: {threads}"
    with without_charts():
        serve()()
