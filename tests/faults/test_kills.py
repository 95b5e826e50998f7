"""Commands killed at random moments, resumed as the guide describes, and compared with uninterrupted ones.

pytest tests/faults/test_kills.py --thorough -s      # 50 kills of each command, half by each signal; prints each
FAULTS_SEED=12345 pytest tests/faults/test_kills.py  # the same moments again, as shares of the run's duration
"""

import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fork_server import Done, ForkServer
from killed_tasks import RUN, Task, find_leftovers, make_crossval, make_prediction, make_recipe, make_training

pytestmark = pytest.mark.slow

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
ENDS = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (130, -signal.SIGTERM)}
"""The exit codes of a command that a signal has ended; 0 where it was done before."""
AGAIN = 0.3
"""The share of resumed commands that are killed, too."""
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: what came of it and how long it took."""

    result: Any
    seconds: float


@pytest.fixture(scope="module")
def trained(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory, thorough: bool) -> tuple[Task, Path, Whole]:
    """An uninterrupted training, its run folder, and what came of it."""
    home = tmp_path_factory.mktemp("trained")
    task = make_training(make_recipe(home, thorough=thorough))
    return task, home / "whole" / RUN, run_whole(forks, task, home / "whole")


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6)))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@contextmanager
def temporary_folder(here: Path, elsewhere: bool) -> Iterator[Path]:
    """The folder for temporary files, beside the run or on a file system of its own, where there is one."""
    own = elsewhere and SHARED_MEMORY.is_dir() and SHARED_MEMORY.stat().st_dev != here.stat().st_dev
    with tempfile.TemporaryDirectory(prefix="faults_", dir=SHARED_MEMORY if own else here.parent) as folder:
        yield Path(folder)


def run_whole(forks: ForkServer, task: Task, here: Path) -> Whole:
    here.mkdir()
    with temporary_folder(here, elsewhere=False) as temporary:
        done = run(forks, task, task.arguments, here, temporary)
        assert (done.code, done.over) == (0, ""), done.err
        assert find_leftovers(here, temporary) == [], "of an uninterrupted run"
    return Whole(task.read(here / RUN), done.seconds)


def run(forks: ForkServer, task: Task, arguments: tuple[str, ...], here: Path, temporary: Path, **kill: Any) -> Done:
    environment = {"WELDNET_CACHE": str(here / "cache"), "TMPDIR": str(temporary)}
    return forks.run(here, task.command, *arguments, environment=environment, limit_s=300, **kill)


def kill_and_resume(
    forks: ForkServer, task: Task, here: Path, temporary: Path, kills: list[dict[str, Any]], where: list[str]
) -> None:
    """Kills the command and then those that resume it, and lets the last one end; `where` gets a line for each kill."""
    arguments = task.arguments
    for kill in kills:
        killed = run(forks, task, arguments, here, temporary, **kill)
        lines = killed.out.splitlines() or ["start"]
        name = "done before" if killed.code == 0 else kill["kill_by"].name
        where.append(f"{name} {kill['kill_after_s']:.2f} s: {lines[-1][:24]!r}")
        assert not killed.over, f"{killed.over}: {where}"
        assert "Traceback" not in killed.err, f"{where}\n{killed.err}"
        if killed.code == 0:
            return
        assert killed.code in ENDS[kill["kill_by"]], f"exit {killed.code}: {where}\n{killed.err}"
        arguments = task.next_arguments(here, killed)
    done = run(forks, task, arguments, here, temporary)
    assert (done.code, done.over) == (0, ""), f"{where}, then {arguments} exits with {done.code}: {done.err[-1500:]}"


def draw_kills(chance: random.Random, whole: Whole, share: float, number: signal.Signals) -> list[dict[str, Any]]:
    kills = [{"kill_after_s": share * whole.seconds, "kill_by": number}]
    while chance.random() < AGAIN:
        kills.append({"kill_after_s": chance.random() * whole.seconds, "kill_by": chance.choice(SIGNALS)})
    return kills


def check_kills(forks: ForkServer, task: Task, whole: Whole, home: Path, chance: random.Random, times: int) -> None:
    """`times` moments for each signal, one in each equal piece of the run's duration."""
    faults: list[str] = []
    landed: Counter[str] = Counter()
    for case, (piece, number) in enumerate((piece, number) for piece in range(times) for number in SIGNALS):
        here, where = home / f"{task.command}_{case}", list[str]()
        here.mkdir()
        kills = draw_kills(chance, whole, (piece + chance.random()) / times, number)
        # Each signal meets both places, where there are several pieces.
        with temporary_folder(here, elsewhere=(case + case // 2) % 2 == 0) as temporary:
            try:
                kill_and_resume(forks, task, here, temporary, kills, where)
                assert find_leftovers(here, temporary) == []
                assert task.read(here / RUN) == whole.result, "a different result"
                fault = ""
            except (AssertionError, OSError) as error:
                fault = f" FAULT: {str(error)[:2000]}"
        landed.update(line.split()[0] for line in where)
        outcome = f"{task.command} {case}, temporary files below {temporary.parent}: {', then '.join(where)}{fault}"
        print(outcome, flush=True)
        faults += [outcome] if fault else []
        shutil.rmtree(here)
    print(f"{task.command}: {dict(landed)}, {len(faults)} faults")
    assert not faults, "\n\n".join(faults)


@pytest.mark.parametrize("name", ["training", "crossval", "prediction"])
def test_kills(
    forks: ForkServer,
    trained: tuple[Task, Path, Whole],
    chance: random.Random,
    tmp_path: Path,
    thorough: bool,
    name: str,
) -> None:
    task, run, whole = trained
    if name != "training":
        recipe = make_recipe(tmp_path, thorough=thorough)
        task = make_crossval(recipe) if name == "crossval" else make_prediction(tmp_path, run)
        whole = run_whole(forks, task, tmp_path / "whole")
    check_kills(forks, task, whole, tmp_path, chance, 25 if thorough else 1)
