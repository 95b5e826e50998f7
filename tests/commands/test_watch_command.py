"""weldnet-predict watch=true as a process, over stops, kills and restarts."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from fork_server import ForkServer

pytestmark = pytest.mark.slow

NOTE = "import sys; open('heard', 'a').write(sys.stdin.read() + chr(10))"


class Watch:
    """The same command again and again, in a folder with `photos`."""

    def __init__(self, home: Path, run: Path, welds: Path, forks: ForkServer, stack: ExitStack) -> None:
        self.home, self.run, self.welds = home, run, sorted(welds.rglob("*.jpg"))
        (home / "photos").mkdir()
        self.forks, self.stack = forks, stack

    def start(self) -> None:
        words = ("source=photos", "watch=true", "poll_s=0.2", "output_dir=out", "resume=true", "device=cpu")
        note = f'notify.command=[{sys.executable},-c,"{NOTE}"]'
        started = self.forks.start(self.home, "predict", f"ckpt_path={self.run}", *words, note, limit_s=300)
        self.process = self.stack.enter_context(started)

    def move_in(self, number: int) -> None:
        copy = shutil.copy(self.welds[number], self.home / "on its way.jpg")
        os.rename(copy, self.home / "photos" / f"{number}.jpg")

    def count(self, name: str) -> int:
        file = self.home / name
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        self.process.wait_until(is_there)

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        done = self.process.wait()
        return done.code, done.out, done.err


@pytest.fixture
def watch(small: Path, tmp_path: Path, forks: ForkServer) -> Iterator[Watch]:
    with ExitStack() as stack:
        yield Watch(tmp_path, small / "run", small / "welds", forks, stack)


def test_a_watch_over_stops_and_kills(watch: Watch) -> None:
    watch.move_in(0)
    watch.start()
    watch.wait_for(lambda: watch.count("heard") == 1)
    watch.move_in(1)
    (watch.home / "photos" / "none.png").write_text("no image")
    watch.wait_for(lambda: watch.count("heard") == 3)
    code, printed, errors = watch.end(signal.SIGTERM)
    assert code == 0, errors
    assert "watching photos (Ctrl-C ends it), model " in printed
    assert "3 verdicts passed on, 0 calls failed: out/calls.jsonl" in printed
    assert "without a verdict, because unreadable: 1" in printed
    watch.start()
    watch.move_in(3)
    watch.wait_for(lambda: watch.count("out/calls.jsonl") == 4)
    assert watch.end(signal.SIGKILL)[0] == -signal.SIGKILL
    # Within a row.
    lines = watch.home / "out" / "predictions.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"path": "/ha')
    watch.start()
    watch.move_in(4)
    watch.wait_for(lambda: watch.count("heard") == 5)
    code, printed, errors = watch.end(signal.SIGINT)
    assert (code, "Traceback" in errors) == (0, False)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    heard = [json.loads(line) for line in (watch.home / "heard").read_text().splitlines()]
    assert rows == heard
    assert sorted(Path(row["path"]).name for row in rows) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "none.png"]
    table = pl.read_csv(watch.home / "out" / "predictions.csv", infer_schema_length=None)
    assert table["path"].to_list() == [row["path"] for row in rows]
