"""What a person sees while many images are looked at, and tables."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0

_NO_EDGE = 10_000

Item = TypeVar("Item")


def watch(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, with a bar that says how many a second and how long the rest takes; plain lines without a terminal."""
    console = Console()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        speed = TextColumn("{task.fields[speed]}")
        with Progress(*columns, speed, TimeRemainingColumn(), console=console) as bar:
            task, started = bar.add_task(text, total=total, speed=""), time.perf_counter()
            for number, item in enumerate(items, 1):
                yield item
                rate = number / (time.perf_counter() - started)
                bar.update(task, completed=number, speed=f"{rate:,.1f} images/s")
        return
    started = last = time.perf_counter()
    for number, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - last >= LINE_EVERY_S:
            last, rate = now, number / (now - started)
            rest = timedelta(seconds=round((total - number) / rate))
            print(f"{text}: {number:,} of {total:,} images, {rate:,.1f} images/s, {rest} left", flush=True)


def print_table(table: RenderableType, console: Console | None = None) -> None:
    """Prints it; without a terminal as wide as it is, as a file has no edge to cut it off at."""
    console = console or Console()
    if not console.is_terminal:
        wide = console.options.update(max_width=_NO_EDGE)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)
