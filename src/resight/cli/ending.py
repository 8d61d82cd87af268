"""How a command ends: with its answer, with one sentence, or interrupted; never with a traceback of an expected error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 when the reader of a pipe has left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from typer.core import TyperGroup

from resight.cli import console
from resight.errors import ResightError, UsageError
from resight.extras import remedy

INTERRUPTED = 128 + signal.SIGINT
READER_LEFT = 128 + 13  # what a shell says of a program that SIGPIPE ended
_BadArguments: Any = typer.BadParameter.__mro__[1]  # typer's own errors of usage, which it does not export


class Commands(TyperGroup):
    """The group of all commands, which ends each of them as this module says."""

    def main(self, *args: Any, **options: Any) -> Any:
        _escape_what_cannot_be_shown()
        with _safe_output():
            return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _safe_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _safe_usage_errors(), one_sentence(), _told_of_interrupts():
            return super().invoke(ctx)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print errors that resight raises on purpose as one sentence; exit 2 for wrong usage, 1 for failure."""
    try:
        yield
    except ResightError as error:
        console.leave(2 if isinstance(error, UsageError) else 1, str(error), error=True)
    except ModuleNotFoundError as error:
        sentence = remedy("this command", error)
        if sentence is None:
            raise
        console.leave(2, sentence, error=True)
    except KeyboardInterrupt:
        console.leave(INTERRUPTED, "stopped: nothing is lost, run the same command again to finish")


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    """Arguments may be names of files: typer's own messages repeat them."""
    try:
        yield
    except _BadArguments as error:
        error.message = console.safe(error.message, keep="\n")
        raise


class _Stdout:
    """Standard output that remembers why it took no more: other files and sockets fail with the same errors."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        with self._remembered():
            return int(self._stream.write(text))

    def flush(self) -> None:
        with self._remembered():
            self._stream.flush()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _safe_output() -> Iterator[None]:
    """A standard output that takes no more ends the command: in silence when its reader left, else with a sentence."""
    before = sys.stdout
    stream = _Stdout(before)
    sys.stdout = stream
    try:
        yield
        stream.flush()
    except (OSError, SystemExit):
        with suppress(OSError):
            stream.flush()
        if stream.failure is None:
            raise
        with suppress(OSError, ValueError):  # else Python tries once more at its exit, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(stream.failure, BrokenPipeError):
            sys.exit(READER_LEFT)
        console.leave(1, f"the output cannot be written: {stream.failure.strerror}", error=True)
    finally:
        sys.stdout = before


def _escape_what_cannot_be_shown() -> None:
    """In an encoding such as ASCII other characters are written out, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _told_of_interrupts() -> Iterator[None]:
    """Say that Ctrl-C was heard when it is pressed: what runs may have to come to an end first.

    The signal wakes a thread, as Python itself would only notice when the native code that runs returns.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(reading,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int) -> None:
    while received := os.read(reading, 64):
        if signal.SIGINT in received:
            console.err.print("stopping: what was done so far is kept")
            return
