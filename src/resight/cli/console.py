"""What the command line shows: progress with rate and remaining time, tables, one-sentence errors, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table
from rich.text import Text

from resight.errors import ResightError, UsageError
from resight.progress import Progress as ProgressCallback

INTERRUPTED = 130

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress(quiet: bool = False) -> Iterator[ProgressCallback]:
    """A `Progress` callback that draws one bar per step on stderr while the block runs; `quiet` draws nothing."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        Remaining(),
    )
    with Progress(*columns, console=err, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print errors that resight raises on purpose as one sentence; exit 2 for wrong usage, 1 for failure."""
    try:
        yield
    except ResightError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        leave_interrupted("stopped: nothing is lost, run the same command again to finish")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; there is nobody to tell
        sys.exit(1)


def leave_interrupted(sentence: str) -> NoReturn:
    """Exit as an interrupted command does."""
    err.print(escape(sentence))
    sys.exit(INTERRUPTED)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A readable table on stdout; numbers to the right."""
    table = Table(title=escape(title), title_justify="left")
    for i, name in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][i], int | float) and not isinstance(rows[0][i], bool)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out.print(table)


def cell(value: Any) -> str:
    """A value as text of a table cell."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 10
        else (f"{value:.1f}" if isinstance(value, float) else escape(str(value)))
    )


def say(text: str) -> None:
    """A line of plain text on stdout."""
    out.print(escape(text))


def warn(text: str) -> None:
    """A line of plain text on stderr."""
    err.print(f"[yellow]note:[/] {escape(text)}")
