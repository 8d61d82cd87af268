"""Every module imports only from layers below its own; siblings in one layer never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import resight

ROOT = Path(resight.__file__).parent
LAYERS = (
    {"types", "errors", "progress", "safe_pickle", "ties", "products"},
    {"images"},
    {"features"},
    {"store"},
    {"index", "graph", "matching"},
    {"ranking", "viz"},
    {"evaluation"},
    {"training"},
    {"ingest", "derived", "global_index", "state", "collection", "collection_types", "checkup", "duplicates", "answers"}
    | {
        "whiten",
        "fusion",
        "improve",
        "querying",
        "pairs_file",
        "graph_index",
        "labelled",
        "learned_recipes",
        "learned_similarity",
        "refine",
        "refine_graph",
        "refine_report",
        "train_similarity",
        "answers_graph",
        "evaluate_trained",
        "feature_cache",
        "evaluate",
        "evaluate_photos",
        "reproduce",
    },
    {
        "console",
        "cli",
        "cli_evaluate",
        "cli_experiment",
        "cli_fuse",
        "cli_graph",
        "cli_models",
        "cli_refine",
        "cli_train",
        "cli_whiten",
        "demo",
        "serving",
    },
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FAMILY = (LAYERS[0], LAYERS[8], LAYERS[9])  # these may import each other
TORCH = ("features/delg.py", "features/fire.py", "features/solar.py",
         "features/resnet.py", "features/vgg.py", "features/checkpoints/", "features/backbone.py",
         "features/context.py", "features/local_features.py",
         "graph/separation.py", "matching/similarity.py", "training/")  # fmt: skip
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether that happens when it is loaded itself."""
    tree = ast.parse((ROOT / path).read_text())
    typing = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
              for n in ast.walk(block)}  # fmt: skip
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"resight.{a.name}" for a in node.names] if node.module == "resight" else [node.module or ""]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if id(node) not in typing:
            found += [(name, id(node) not in lazy) for name in names]
    return found


def part(name: str) -> str:
    """The package or module of resight that `name` lies in; empty for resight itself and for other packages."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "resight" and len(pieces) > 1 and pieces[1] in LEVEL else ""


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down(path: Path) -> None:
    own = path.parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the front door: it opens a collection, lazily
    assert own in LEVEL, f"{own} is in no layer"
    for name, _ in imports(path):
        other = part(name)
        if other and other != own and not any({own, other} <= family for family in FAMILY):
            assert LEVEL[other] < LEVEL[own], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_torch_stays_where_it_belongs(path: Path) -> None:
    if not str(path).startswith(TORCH):
        heavy = [name for name, at_once in imports(path) if at_once and name.split(".")[0] == "torch"]
        assert not heavy, f"{path} imports {heavy[0]}"
