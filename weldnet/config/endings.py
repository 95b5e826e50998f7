"""How a command ends that is interrupted, or whose output nobody reads any longer."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from weldnet.files import is_refusal


@contextmanager
def end_with_signals() -> Iterator[None]:
    """Within it, SIGTERM ends the command as Ctrl-C does: by an exception, after which it can print how to resume.

    At once: Lightning alone waits for the end of a step, which may never come. A thread that the disk refuses prints no
    traceback, since the thread that waits for it raises the same error. An interruption that comes while an object is
    finalized, where Python drops what is raised, comes again, to this thread: one that sleeps or reads wakes up.
    """
    before, show = signal.signal(signal.SIGTERM, signal.default_int_handler), threading.excepthook
    show_dropped, repeats = sys.unraisablehook, list[threading.Timer]()

    def skip_refusals(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or not is_refusal(args.exc_value):
            show(args)

    def interrupt_again(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_type is KeyboardInterrupt:
            repeats.append(threading.Timer(0.02, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)))
            repeats[-1].start()
        else:
            show_dropped(args)

    threading.excepthook, sys.unraisablehook = skip_refusals, interrupt_again
    try:
        yield
    finally:
        for repeat in repeats:
            repeat.cancel()
            # One that is under way would end the process once SIGTERM is the system's again.
            with suppress(KeyboardInterrupt):
                repeat.join()
        threading.excepthook, sys.unraisablehook = show, show_dropped
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_with_signals() -> Iterator[threading.Event]:
    """A context with an event that the first SIGINT or SIGTERM sets; the second one ends the command at once."""
    stop, numbers = threading.Event(), (signal.SIGINT, signal.SIGTERM)

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    before = [signal.signal(number, request) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def end_with_reader() -> Iterator[None]:
    """Ends quietly when the reader of the output has ended, as `head` does; by the exit code of SIGPIPE."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # A flush does not find out: a failed write drops what it could not write.
        streams = select.poll()
        for stream in (sys.stdout, sys.stderr):
            streams.register(stream.fileno(), 0)
        unread = streams.poll(0)
        if not unread:
            # The pipe to something else.
            raise
        # Python flushes once more when it ends.
        for number, _ in unread:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        sys.exit(128 + signal.SIGPIPE)
