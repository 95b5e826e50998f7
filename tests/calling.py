"""The commands through their real `main`, in this process."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from markupsafe import Markup


def call(command: str, *arguments: str) -> None:
    """`weldnet-<command> ...`; its exit is a SystemExit."""
    if command == "export":
        read_operators_once()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"weldnet-{command}", *arguments])
        importlib.import_module(f"weldnet.commands.{command}").main()


@cache
def read_operators_once() -> None:
    """torch reads the source of 500 operators in each export to ONNX, a third of its time; from now on once."""
    registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
    pytest.MonkeyPatch().setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))


@contextmanager
def without_charts() -> Iterator[None]:
    """Within it no chart is drawn, which takes longer than to train a small network; tests/report checks them."""
    names = ("reliability", "per_class", "referral")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weldnet.report.sections.draw_charts", lambda report: dict.fromkeys(names))
        patch.setattr("weldnet.report.sections.embed_chart", lambda figure, name: Markup())
        for module in ("report.writer", "training.crossval_report"):
            patch.setattr(f"weldnet.{module}.save_chart", lambda figure, file: file.write_bytes(b"undrawn"))
        # Loggers draw what they get at once; they keep the confusion matrix.
        patch.setattr("weldnet.training.dashboard.draw_charts", lambda report: {})
        yield


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
