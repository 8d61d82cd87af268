"""Which source files of resight a piece of its program consists of, found by reading what they import.

Nothing is imported for that, and no list is kept by hand: a file that is split, moved or newly used is followed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGE = "resight"


@cache
def program_hash(entries: tuple[str, ...] = ()) -> str:
    """SHA-256 of the source files behind the modules `entries`, of all where none are given, as they are at the first
    call of this process: a changed program makes other features.
    """
    return source_hash(files(PACKAGE), entries)


def source_hash(root: Traversable, entries: Iterable[str] = ()) -> str:
    """SHA-256 of the names and contents of `import_closure`, or of all source files below `root` without `entries`."""
    found = import_closure(root, entries) if entries else dict(_every(root, PACKAGE))
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + hashlib.sha256(found[name].read_bytes()).digest())
    return digest.hexdigest()


def import_closure(root: Traversable, entries: Iterable[str]) -> dict[str, Traversable]:
    """Module -> file of the modules `entries` and all that they import, directly or not, of the package at `root`.

    Imports inside functions count, those for type checkers alone do not. The `__init__` of a package counts where
    something is imported from it, not where only a module below it is. Raises `ModuleNotFoundError` for an entry that
    is no module.
    """
    waiting = list(entries)
    for entry in waiting:
        if _file(root, entry) is None:
            raise ModuleNotFoundError(f"there is no module {entry} below {root}", name=entry)
    found: dict[str, Traversable] = {}
    while waiting:
        module = waiting.pop()
        file = None if module in found else _file(root, module)
        if file is not None:
            found[module] = file
            waiting += _imported(root, ast.parse(file.read_bytes()))
    return found


def _imported(root: Traversable, tree: ast.Module) -> Iterator[str]:
    """Modules that a source names in its import statements, of this package and others."""
    unseen = {id(node) for block in ast.walk(tree) if _for_types(block) for node in _body(block)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno} imports relatively: resight imports by full names")
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if _file(root, name) is not None else str(node.module) for name in inner)


def _for_types(node: ast.AST) -> bool:
    """Whether `node` is `if TYPE_CHECKING:`."""
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def _body(block: ast.AST) -> Iterator[ast.AST]:
    for statement in getattr(block, "body", ()):
        yield from ast.walk(statement)


def _file(root: Traversable, module: str) -> Traversable | None:
    """The source of a module of this package, None for other modules and for names that are none."""
    package, *inner = module.split(".")
    if package != PACKAGE:
        return None
    place = root
    for name in inner[:-1]:
        place = place.joinpath(name)
    own = place.joinpath(inner[-1]) if inner else root
    candidates = [own.joinpath("__init__.py")] + ([place.joinpath(f"{inner[-1]}.py")] if inner else [])
    return next((file for file in candidates if file.is_file()), None)


def _every(place: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for inner in place.iterdir():
        if inner.is_dir():
            yield from _every(inner, f"{name}.{inner.name}")
        elif inner.name.endswith(".py"):
            yield f"{name}.{inner.name}", inner
