"""The project's own Python, for a script that was started by a different one."""

import importlib.util
import os
import sys
from pathlib import Path


def use_own_python() -> None:
    """Starts the script again with the project's .venv where weldnet is not installed in this Python."""
    if importlib.util.find_spec("weldnet") is not None:
        return
    python = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"
    if not python.exists() or Path(sys.executable).parent == python.parent:
        sys.exit(f"{Path(sys.argv[0]).name}: weldnet is not installed; run scripts/setup")
    os.execv(python, [str(python), *sys.argv])
