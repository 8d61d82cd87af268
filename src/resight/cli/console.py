"""What the command line shows: tables, sentences, progress and JSON, all of them safe to show on a terminal."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table
from rich.text import Text

from resight.progress import Progress as ProgressCallback

# Control characters, changes of the writing direction, and halves of characters, as file names may hold them: a
# terminal would obey them.
FIRST_RUN = "This is the first run: kernels are compiled for this machine (once, for about half a minute)."
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAME_WIDTH = 40  # characters of a first column that stay in one piece


class _Output(Console):
    """A console that leaves a broken pipe to `resight.cli.ending`."""

    def on_broken_pipe(self) -> None:
        raise


class _Stderr:
    """Standard error as it is now. What it cannot take is dropped: there is nobody left to tell."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


out = _Output(highlight=False, soft_wrap=True)
err = _Output(file=_Stderr(), highlight=False, soft_wrap=True)  # type: ignore[arg-type]


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record), keep="\n\t")


def log_to_stderr(level: int) -> None:
    """Show what resight logs from `level` on as lines on standard error; other packages' only from WARNING on."""
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("resight")
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(level)


def safe(text: Any, keep: str = "") -> str:
    """Text as a terminal may be given it: what it would obey or could not show is written out, such as `\\x1b`."""
    return UNSAFE.sub(lambda found: found[0] if found[0] in keep else _written_out(found[0]), str(text))


def _written_out(character: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, ascii(character)[1:-1])


def say(text: str) -> None:
    """One line of plain text on standard output."""
    out.print(escape(safe(text)))


def say_lines(text: str) -> None:
    """Several lines of plain text on standard output, such as a finished table."""
    out.print(escape(safe(text, keep="\n\t")))


def warn(text: str) -> None:
    """One line of plain text on standard error."""
    err.print(f"[yellow]note:[/] {escape(safe(text))}")


def leave(code: int, sentence: str = "", *, error: bool = False) -> NoReturn:
    """End the command with an exit code, and a sentence on standard error."""
    if sentence:
        err.print(f"{'[bold red]error:[/] ' if error else ''}{escape(safe(sentence))}")
    sys.exit(code)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), indent=2, allow_nan=False)
    # what is left to escape stands inside of strings, where JSON itself knows \u
    text = UNSAFE.sub(lambda found: "\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
    sys.stdout.write(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A readable table on standard output; numbers to the right. So that they can be copied, the title stays on one
    line, however narrow the terminal, and what the first column names in one piece, up to 40 characters."""
    if title:
        out.print(escape(safe(title)), style="table.title", soft_wrap=True)
    table = Table()
    for i, name in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][i], int | float) and not isinstance(rows[0][i], bool)
        whole = min(NAME_WIDTH, max((len(cell(row[0])) for row in rows), default=0)) if i == 0 else None
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", min_width=whole)
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    out.print(table)


def cell(value: Any) -> str:
    """A value as text of a table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    return safe(value)


def percent(share: float) -> str:
    """A share such as mAP the way papers print it: in percent, with one decimal."""
    return f"{100 * share:.1f}"


def count(number: int, one: str) -> str:
    """A number of things in words, such as `1 photo` and `2 photos`; the plural is regular."""
    return f"{number} {one}{'' if number == 1 else 'es' if one.endswith('ch') else 's'}"


class Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress(quiet: bool = False) -> Iterator[ProgressCallback]:
    """A `Progress` callback that draws one bar per step on standard error while the block runs; `quiet`: nothing.

    The first run of all says before that kernels are compiled.
    """
    if not quiet and compiles():
        err.print(FIRST_RUN, style="dim")
    columns = (
        SpinnerColumn(_spinner()),
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
                tasks[step] = bars.add_task(escape(safe(step)), total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


@contextmanager
def waiting(what: str, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says at once what is being done; gone when the block ends. Gives what changes it."""
    if quiet or not err.is_terminal:
        yield lambda _: None
        return
    with err.status(escape(safe(what)), spinner=_spinner()) as status:
        yield lambda text: status.update(escape(safe(text)))


def first_word(what: str) -> str:
    """What is being done, and where numba keeps no kernels of this package yet, that they are compiled."""
    return f"{what}; compiling kernels (first run only)" if compiles() else what


def compiles() -> bool:
    """Whether numba keeps no kernels of this package yet, so that what uses them compiles them.

    Looks only for files, as importing the kernels is what compiles some of them.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    folders = [Path(named)] if named else [Path(__file__).parents[1] / "matching", user]
    with suppress(OSError):
        if any(next(folder.rglob("shortlist.*.nbi"), None) for folder in folders):
            return False
    return True


def program() -> str:
    """What to type to start this program again from here: `resight`, where the shell finds this one by that name."""
    called = os.path.abspath(sys.argv[0])
    if os.path.basename(called) == "__main__.py":
        return f"{_typed(sys.executable)} -m resight"
    return _typed(called) if os.path.basename(called) == "resight" else "resight"


def _typed(path: str) -> str:
    """An executable as it is typed: its name where the shell finds it by that, else its path, short where possible."""
    name = os.path.basename(path)
    found = shutil.which(name)
    if found is not None and os.path.abspath(found) == path:
        return name
    near = os.path.relpath(path)
    return shlex.quote(path if near.startswith("..") else near)


def _spinner() -> str:
    return "dots" if _is_utf8(sys.stderr) else "line"


def _is_utf8(stream: Any) -> bool:
    return str(getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"


def part(key: str) -> str:
    """What a part of a collection is called: "" for the local features that verify, a further kind, or the vector."""
    named = {"": "the local features", "vector": "the global descriptor"}
    return named.get(key, f"the {key} features")
