"""Write docs/commands.md from the command line itself.

python docs/generate_commands.py           # writes the page
python docs/generate_commands.py --check   # exits 1 where the page is not what the command line says
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from resight.cli import app

PAGE = Path(__file__).with_name("commands.md")

HEAD = """<!-- Made by docs/generate_commands.py: change the help texts in src/resight/cli, and run it again. -->
# Commands

Every command takes `--help` and `--json`. Results go to standard output, progress and errors to standard error.
`python -m resight` is the same as `resight`.

| exit code | means |
|--:|---|
| 0 | done |
| 1 | failed: a broken collection, a full disk, a FAIL of `bench reproduce`, `check` found something |
| 2 | wrong usage: a path that does not exist, a box outside the photo, an unknown recipe |
| 130 | interrupted by Ctrl-C; the same command goes on where it stopped |
| 141 | the reader of a pipe has left |

mAP is printed in percent with one decimal, such as 84.4; JSON holds 0.844 in full precision.
"""

TAIL = """## Forms

**`--set KEY=VALUE`** takes numbers (`3`, `1e-2`), `true`, `false`, `null`, lists of them (`'scales=[1, 1.41]'`), and
takes everything else as text. For `index` the keys are settings of the collection, kept with it: see
[classic](classic.md) and [global descriptors](global-descriptors.md). For `search` and `explain` they are options of
the recipe that ranks.

**`--recipe` of `search` and `explain`** is another way to rank what the collection keeps: of a hybrid one `classic` or
`gem`; with global descriptors also the [graph recipes](graph-methods.md); after `fit separation` also
[separation](separation.md), after `fit similarity` also [deep-similarity](learned-similarity.md). An empty name lists
them all.

**Files of examples** are CSV in UTF-8, and their first line names the columns; others may stand beside them:

| columns | a line says | of |
|---|---|---|
| `left,right` | two photos of the collection, by their ids, show the same thing | `--pairs` |
| `left,right,matching` | the same, or with `matching` 0 that they do not | `--pairs` |
| `id,group` | a photo of the collection shows the thing that the group stands for | `--groups` |
| `photo,label` | a photo beside the collection, by its path from the file, has this label | `label` |

**Names** of files may hold what a terminal would obey. They are printed with such characters written out, as `\\x1b`.

**`search --json`** prints:

```json
{
  "query": "holiday.jpg", "box": null, "confident": true, "threshold": 24.0,
  "rule": "score 24.0 and proof by geometry needed", "seconds": {"read": 0.08, "search": 0.41},
  "results": [{"rank": 1, "id": "2019/rome/0412.jpg", "path": "/home/me/Photos/2019/rome/0412.jpg",
               "score": 219.9, "match": true, "inliers": 365}]
}
```
"""


def leaves(command: Any, path: tuple[str, ...] = ("resight",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it, in the order of `--help`."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


def page() -> str:
    """The page, from the command line as it is."""
    commands = list(leaves(typer.main.get_command(app)))
    overview = ["| command | does |", "|---|---|"]
    overview += [
        f"| [`{' '.join(path)}`](#{'-'.join(path)}) | {_cell(command.help.split(chr(10) * 2)[0])} |"
        for path, command in commands
    ]
    return "\n".join([HEAD, *overview, "", *(_section(path, command) for path, command in commands), TAIL])


def _section(path: tuple[str, ...], command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([*path, *(_argument(p) for p in arguments), *(_form(p) for p in options if p.required)])
    rows = [f"| `{_argument(p)}` | {_cell(p.help)} |" for p in arguments]
    rows += [f"| `{_form(p)}` | {_cell(p.help)}{_default(p)} |" for p in options]
    text = "\n".join(" ".join(part.split()) for part in command.help.split("\n\n"))
    return "\n".join([f"## {' '.join(path)}", "", f"    {usage}", "", text, "", "| | |", "|---|---|", *rows, ""])


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _form(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar}"


def _default(parameter: Any) -> str:
    if parameter.is_flag:
        return "" if not (parameter.default and parameter.secondary_opts) else " On by default."
    value = parameter.default
    plain = value is None or callable(value) or parameter.multiple
    return "" if plain else f" Default: `{value}`."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is not current: run {__file__}")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
