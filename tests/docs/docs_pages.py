"""The pages of the documentation: their commands and their programs, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ("docs/commands.md", "docs/api.md")  # forms of commands, made from the command line itself
PAGES = tuple(
    name
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")))
    if (name := path.relative_to(ROOT).as_posix()) not in GENERATED
)
FENCE = re.compile(r"^ *(```+|~~~+) *(\w*)")
PROGRAMS = ("resight", "python", "pip", "make", "curl", "docker")


@dataclass(frozen=True)
class Block:
    """A block of code: its language ("" for none, and for an indented one), its lines, and where it begins."""

    page: str
    line: int
    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Command:
    """One command of a page: its words, the file that takes its output, and where it stands."""

    page: str
    line: int
    words: tuple[str, ...]
    into: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def blocks(page: str) -> Iterator[Block]:
    """Every fenced and every indented block of `page`, in order."""
    kept: list[str] = []
    fence, language, start = "", "", 0
    for number, line in enumerate([*(ROOT / page).read_text(encoding="utf-8").split("\n"), ""], 1):
        found = FENCE.match(line)
        if fence:
            if found and found[1] == fence:
                yield Block(page, start, language, tuple(kept))
                kept, fence = [], ""
            else:
                kept.append(line)
        elif line.startswith("    ") and not found:
            start = start if kept else number
            kept.append(line[4:])
        elif kept and line.strip() == "":
            kept.append("")
        else:
            if kept:
                yield Block(page, start, "", tuple(kept))
                kept = []
            if found:
                fence, language, start = found[1], found[2], number + 1
    if kept:
        yield Block(page, start, "", tuple(kept))


def commands(page: str) -> Iterator[Command]:
    """Every command that stands in a block of `page` on a line of its own, joined lines as one."""
    for block in blocks(page):
        if block.language not in ("", "bash", "sh", "console"):
            continue
        waiting, start = "", 0
        for number, line in enumerate(block.lines, block.line):
            start = start if waiting else number
            if line.endswith("\\"):
                waiting += line[:-1]
                continue
            yield from _split(page, start, waiting + line)
            waiting = ""


def programs(page: str) -> list[Block]:
    """The blocks of Python of `page`, in order."""
    return [block for block in blocks(page) if block.language == "python"]


def _split(page: str, line: int, text: str) -> Iterator[Command]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return  # a sentence or a formula, not a command
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        one, words = words[:end], words[end + 1 :]
        while one and re.fullmatch(r"[A-Z_]+=\S*", one[0]):
            one = one[1:]
        into = one[one.index(">") + 1] if ">" in one else None
        one = one[: one.index(">")] if ">" in one else one
        if one and Path(one[0]).name.removesuffix("3") in PROGRAMS:
            yield Command(page, line, (Path(one[0]).name.removesuffix("3"), *one[1:]), into)
