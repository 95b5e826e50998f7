"""weldnet-predict watch=true as a process, over stops, kills and restarts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from training_runs import heed_interrupts

pytestmark = pytest.mark.slow

NOTE = "import sys; open('heard', 'a').write(sys.stdin.read() + chr(10))"


class Watch:
    """The same command again and again, in a folder with `photos`."""

    def __init__(self, home: Path, run: Path, welds: Path) -> None:
        self.home, self.run, self.welds = home, run, sorted(welds.rglob("*.jpg"))
        (home / "photos").mkdir()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ("source=photos", "watch=true", "poll_s=0.2", "output_dir=out", "resume=true")
        command = [str(Path(sys.executable).with_name("weldnet-predict")), f"ckpt_path={self.run}", *words]
        self.process = subprocess.Popen(
            [*command, "device=cpu", f'notify.command=[{sys.executable},-c,"{NOTE}"]'],
            cwd=self.home, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, preexec_fn=heed_interrupts,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def move_in(self, number: int) -> None:
        copy = shutil.copy(self.welds[number], self.home / "on its way.jpg")
        os.rename(copy, self.home / "photos" / f"{number}.jpg")

    def count(self, name: str) -> int:
        file = self.home / name
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        assert self.process
        until = time.monotonic() + 300
        while not is_there():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        assert self.process
        self.process.send_signal(number)
        printed, errors = self.process.communicate(timeout=120)
        return self.process.returncode, printed, errors


@pytest.fixture
def watch(small: Path, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(tmp_path, small / "run", small / "welds")
    yield made
    if made.process:
        made.process.kill()
        made.process.communicate()


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
    assert "3 verdicts handed on, 0 calls failed: out/calls.jsonl" in printed
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
