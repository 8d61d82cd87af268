"""The golden world, built once per run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _world_module() -> ModuleType:
    """`world.py` beside this file; tests are no package, and its plain name could be another module's."""
    name = "golden_world_builder"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("world.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def golden_world(tmp_path_factory):
    """A `GoldenWorld` (see `world.py`) in a temporary folder; do not write into it."""
    return _world_module().build_golden(tmp_path_factory.mktemp("golden"))
