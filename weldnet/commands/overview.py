"""weldnet: the commands, and the version."""

import ast
import importlib
import os
import sys
from pathlib import Path

from weldnet.config.endings import end_with_reader
from weldnet.errors import nearest

FOLDER = Path(__file__).parent

COMMANDS = sorted({file.stem for file in FOLDER.glob("*.py")} - {"__init__", "overview"})


@end_with_reader()
def main() -> None:
    """Lists the commands, or runs the one that is named: `weldnet train ...` is `weldnet-train ...`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        # The script beside this one: it is what messages name, and what further processes are started by.
        sys.argv = [os.path.join(os.path.dirname(sys.argv[0]), f"weldnet-{name}"), *arguments]
        importlib.import_module(f"weldnet.commands.{name}").main()
    elif name == "--version":
        from weldnet import __version__

        print(f"weldnet {__version__}")
    elif name in ("--help", "-h"):
        print("weldnet: classify photographs of welds, measured on unseen welds; weldnet COMMAND --help lists keys\n")
        for command in COMMANDS:
            # Not imported, which would take seconds.
            content = ast.parse((FOLDER / f"{command}.py").read_text("utf-8"))
            _, summary = str(ast.get_docstring(content)).splitlines()[0].split(": ", 1)
            print(f"  weldnet {command:<10}{summary}")
    else:
        print(
            f"weldnet: no such command: {name}; allowed are {', '.join(COMMANDS)}{nearest(name, COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(2)
