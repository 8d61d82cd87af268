"""Every file imports only from layers below its own, no files import each other in a circle, and torch stays put."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import resight

ROOT = Path(resight.__file__).parent
LAYERS = (
    {
        "types",
        "errors",
        "extras",
        "arrays",
        "bits",
        "precision",
        "progress",
        "safe_pickle",
        "safe_yaml",
        "version",
        "ties",
        "products",
        "kernel_cache",
        "regular_files",
        "csv_lines",
    },  # single files
    {"images"},
    {"features"},
    {"store"},
    {"index", "graph", "matching"},
    {"ranking", "training", "viz"},
    {"recipes"},
    {"artifacts"},
    {"collection"},
    {"fitting", "evaluation", "reports", "cluster"},
    {"demo", "exchange", "serving"},
    {"cli"},
    {"__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH = ("features/networks/", "features/local/", "features/checkpoints/", "graph/separation.py",
         "matching/similarity.py", "training/")  # fmt: skip
FRONT_DOOR = Path("__init__.py")  # it opens a collection, lazily
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Modules that a file imports, not for types alone, and whether that happens when it is loaded itself."""
    tree = ast.parse((ROOT / path).read_text())
    typing = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
              for n in ast.walk(block)}  # fmt: skip
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [_module(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if id(node) not in typing:
            found += [(name, id(node) not in lazy) for name in names]
    return tuple(found)


def _module(package: str, name: str) -> str:
    """What `from package import name` loads: a module of that name, where there is one, else the package."""
    return f"{package}.{name}" if _file(f"{package}.{name}") is not None else package


def _file(module: str) -> Path | None:
    """The file of a module of resight, None for other modules and for names that are none."""
    pieces = module.split(".")
    if pieces[0] != "resight":
        return None
    path = Path(*pieces[1:])
    candidates = (path / "__init__.py", path.with_suffix(".py")) if pieces[1:] else (FRONT_DOOR,)
    return next((file for file in candidates if (ROOT / file).is_file()), None)


def _part(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def test_imports_go_down() -> None:
    offenders = [f"{file} is in no layer" for file in FILES if file != FRONT_DOOR and _part(file) not in LEVEL]
    for file in FILES:
        for name, _ in imports(file):
            other = _file(name)
            if file == FRONT_DOOR or other is None or _part(file) not in LEVEL:
                continue
            same = _part(other) == _part(file) and len(file.parts) > 1
            single = LEVEL[_part(file)] == 0 and LEVEL.get(_part(other), 99) == 0
            if not same and not single and LEVEL.get(_part(other), 99) >= LEVEL[_part(file)]:
                offenders.append(f"{file} imports {name}")
    assert not offenders, "\n".join(offenders)


def test_no_circle_of_files() -> None:
    graph = {str(file): {str(f) for name, _ in imports(file) if (f := _file(name)) not in (None, file)}
             for file in FILES if file != FRONT_DOOR}  # fmt: skip
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, naming the files; lazy imports count


def test_torch_stays_where_it_belongs() -> None:
    heavy = [f"{file} imports {name}" for file in FILES if not str(file).startswith(TORCH)
             for name, at_once in imports(file) if at_once and name.split(".")[0] == "torch"]  # fmt: skip
    assert not heavy, "\n".join(heavy)
