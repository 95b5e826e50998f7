"""Tables in a log."""

from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from weldnet.console import print_table

WORDS = "a class of welds whose name is long, " * 4


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_log_has_no_edge(is_terminal: bool) -> None:
    table = Table("class", "n")
    table.add_row(WORDS.strip(), "1")
    console = Console(file=StringIO(), force_terminal=is_terminal, width=80, color_system=None)
    print_table(table, console)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert any(WORDS.strip() in line for line in lines) is not is_terminal
    assert max(map(len, lines)) <= 80 or not is_terminal
