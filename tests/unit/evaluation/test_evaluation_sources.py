"""The key of kept features follows what extracts them, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import resight
from resight.evaluation.feature_cache import DESCRIBING, EXTRACTING, INDEXING
from resight.evaluation.sources import import_closure, program_hash, source_hash

PACKAGE = Path(resight.__file__).parent
ROOTSIFT = (*EXTRACTING, "resight.features.local.rootsift")  # kinds are found by name: their modules are named too


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that may be edited."""
    place = tmp_path_factory.mktemp("program") / "resight"
    shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.mark.parametrize(
    ("entries", "name", "follows"),
    [
        (ROOTSIFT, "images/transform.py", True),
        (EXTRACTING, "images/decode.py", True),
        (EXTRACTING, "images/colour.py", True),
        (ROOTSIFT, "features/local/rootsift.py", True),
        (EXTRACTING, "features/local/packed.py", True),
        (EXTRACTING, "collection/ingest.py", True),
        (EXTRACTING, "viz/html.py", False),
        (EXTRACTING, "index/asmk.py", False),
        (EXTRACTING, "ranking/search.py", False),
        (EXTRACTING, "recipes/catalogue.py", False),
        (EXTRACTING, "features/networks/resnet.py", False),
        (DESCRIBING, "features/networks/resnet.py", True),
        (DESCRIBING, "features/networks/vgg.py", True),
        (DESCRIBING, "features/networks/second_order.py", True),
        (DESCRIBING, "features/networks/transformers.py", True),
        (DESCRIBING, "features/networks/onnx.py", True),
        (DESCRIBING, "features/checkpoints/readers.py", True),
        (DESCRIBING, "features/local/how.py", True),
        (DESCRIBING, "features/whitening.py", True),
        (DESCRIBING, "features/pooling.py", True),
        (DESCRIBING, "viz/html.py", False),
        (DESCRIBING, "index/asmk.py", False),
        (INDEXING, "index/codebook.py", True),
        (INDEXING, "matching/geometry.py", True),
        (INDEXING, "artifacts/inverted_file.py", True),
        (INDEXING, "viz/html.py", False),
        (INDEXING, "evaluation/metrics.py", False),
        ((), "viz/html.py", True),
    ],
)
def test_a_changed_source_changes_the_key_where_it_counts(
    program: Path, entries: tuple[str, ...], name: str, follows: bool
) -> None:
    source = (program / name).read_bytes()
    (program / name).write_bytes(source + b"\n# edited\n")
    after = source_hash(program, entries)
    (program / name).write_bytes(source)
    assert (after != program_hash(entries)) == follows


def test_the_installed_program_is_hashed() -> None:
    for entries in (EXTRACTING, DESCRIBING, INDEXING, ()):
        assert program_hash(entries) == source_hash(PACKAGE, entries)


def test_imports_are_followed_as_python_does(tmp_path: Path) -> None:
    sources = {
        "__init__.py": "",
        "a.py": "import resight.b\ndef f():\n    from resight.deep import lazy\n",
        "b.py": "if TYPE_CHECKING:\n    import resight.typed\nelse:\n    import resight.c\n",
        "c.py": "import numpy\nfrom resight.deep import name\nfrom resight.a import f\n",
        "typed.py": "",
        "unused.py": "",
        "deep/__init__.py": "from resight.deep.inner import name\n",
        "deep/lazy.py": "",
        "deep/inner.py": "name = 1\n",
        "deep/other.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = import_closure(tmp_path, ["resight.a"])
    assert sorted(found) == [f"resight.{m}" for m in ("a", "b", "c", "deep", "deep.inner", "deep.lazy")]
    assert "resight.deep" not in import_closure(tmp_path, ["resight.deep.lazy"])


def test_an_entry_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module resight\.moved"):
        import_closure(tmp_path, ["resight.moved"])
    with pytest.raises(ModuleNotFoundError, match="no module numpy"):
        import_closure(PACKAGE, ["numpy"])
