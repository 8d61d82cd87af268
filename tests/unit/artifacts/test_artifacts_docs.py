"""The table of artifacts in the documentation is the list in the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_of_artifacts_is_current():
    spec = importlib.util.spec_from_file_location("generate_artifacts", DOCS / "generate_artifacts.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = (DOCS / "data-model.md").read_text(encoding="utf-8")
    assert generator.with_table(page) == page, "run python docs/generate_artifacts.py"
