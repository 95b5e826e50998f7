"""What the terminal shows: progress over many images, and tables."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0

_NO_EDGE = 10_000

Item = TypeVar("Item")


def watch(items: Iterable[Item], total: int, text: str, unit: str = "images") -> Iterator[Item]:
    """The items, with a bar of units per second and time left; plain lines without a terminal."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    started = last = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total, speed="")
        for number, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            speed = f"{number / (now - started):,.1f} {unit}/s"
            bar.update(task, completed=number, speed=speed)
            if not console.is_terminal and now - last >= LINE_EVERY_S:
                last, left = now, timedelta(seconds=round((now - started) * (total - number) / number))
                print(f"{text}: {number:,} of {total:,} {unit}, {speed}, {left} left", flush=True)


def print_table(table: RenderableType, console: Console | None = None) -> None:
    """Prints it; without a terminal as wide as it is, as a file has no edge to cut it off at."""
    console = console or Console()
    if not console.is_terminal:
        wide = console.options.update(max_width=_NO_EDGE)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)
