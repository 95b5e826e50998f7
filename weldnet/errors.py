"""A user's mistake, and the words that explain it."""

import difflib
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_LISTED = 20


class InputError(ValueError):
    """A user's mistake: its message holds what is wrong, where, what is allowed and what to type instead.

    The commands print it and exit with code 2; every other exception is ours and keeps its traceback.

    Attributes:
        fault: what is wrong, and all else that precedes the advice.
        advice: what to type instead, apart from the rest for a page that has shown the same before.
    """

    def __init__(self, fault: str = "", advice: str = "") -> None:
        super().__init__(fault, advice)
        self.fault, self.advice = fault, advice

    def __str__(self) -> str:
        return f"{self.fault} {self.advice}" if self.advice else self.fault


class MachineError(InputError):
    """What this machine could not do just now; with the same settings it may work another time."""


class MemoryShortageError(MachineError):
    """There is too little memory, of the machine or of its device, for what the settings ask."""


class LostProcessError(InputError):
    """One of the processes that train together has ended, and the others with it; the run can be resumed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'lr'?"` for the known word nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a value that is not among those that are allowed."""
    if value not in allowed:
        raise InputError(f"{key}={value}: allowed are {', '.join(allowed)}{nearest(str(value), allowed)}")


def propose_extra(extra: str) -> str:
    """The command that installs an extra where this weldnet is installed."""
    checkout = Path(__file__).absolute().parents[1]
    if Path(sys.prefix) == checkout / ".venv":
        return f"{shlex.quote(str(checkout / 'scripts' / 'setup'))} {extra}"
    package = checkout if (checkout / "pyproject.toml").is_file() else "weldnet"
    return f"pip install {shlex.quote(f'{package}[{extra}]')}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters; its name where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`, `1,000 errors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def list_some(items: Sequence[str], limit: int = MOST_LISTED) -> str:
    """One item a line, indented; past `limit` a count of the rest."""
    rest = [f"... and {len(items) - limit:,} more"] if len(items) > limit else []
    return "\n".join(f"  {item}" for item in [*items[:limit], *rest])


def shorten(items: Sequence[str], limit: int = 5) -> str:
    """The items on one line; past `limit` a count of the rest."""
    return ", ".join([*items[:limit], *([f"... and {len(items) - limit:,} more"] if len(items) > limit else [])])
