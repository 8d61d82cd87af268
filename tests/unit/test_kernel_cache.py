"""Compiled kernels find a place even where neither the package nor the home can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resight import kernel_cache


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv(kernel_cache.VARIABLE, raising=False)
    monkeypatch.setattr(kernel_cache, "_writable", lambda _: False)
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(kernel_cache.tempfile, "mkdtemp", lambda prefix: str(tmp_path / f"{prefix}own"))
    return tmp_path


def test_a_private_folder_serves(nowhere):
    kernel_cache.choose_kernel_cache()
    chosen = Path(os.environ[kernel_cache.VARIABLE])
    assert chosen.parent == nowhere
    assert not chosen.stat().st_mode & 0o077


def test_a_folder_that_others_could_write_to_is_not_used(nowhere):
    kernel_cache.choose_kernel_cache()
    chosen = Path(os.environ.pop(kernel_cache.VARIABLE))
    chosen.chmod(0o777)
    kernel_cache.choose_kernel_cache()
    assert os.environ[kernel_cache.VARIABLE] == str(nowhere / "resight-kernels-own")


@pytest.mark.usefixtures("nowhere")
def test_a_folder_that_the_user_named_stays(monkeypatch):
    monkeypatch.setenv(kernel_cache.VARIABLE, "/somewhere")
    kernel_cache.choose_kernel_cache()
    assert os.environ[kernel_cache.VARIABLE] == "/somewhere"
