"""The commands through their real `main`, in this process."""

import importlib
import sys

import pytest


def call(command: str, *arguments: str) -> None:
    """`weldnet-<command> ...`; its exit is a SystemExit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"weldnet-{command}", *arguments])
        importlib.import_module(f"weldnet.commands.{command}").main()


def exit_code(command: str, *arguments: str) -> int:
    """What `weldnet-<command> ...` exits with."""
    try:
        call(command, *arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refuse(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> str:
    """The message of a command that is refused."""
    assert exit_code(command, *arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message
