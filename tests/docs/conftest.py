"""The folder of the pages, made once per run."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_scratch import make_scratch


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever the pages name, small. Do not write into it: each page works in a copy."""
    return make_scratch(tmp_path_factory.mktemp("pages"))
