"""Experiments as YAML files: `benchmarks`, a list of NAME:PATH, `systems`, and the `baseline` to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resight.collection.codebooks import codebook_file
from resight.errors import UsageError
from resight.evaluation.experiment import Run
from resight.regular_files import open_regular
from resight.safe_yaml import read_yaml

KEYS = {"benchmarks", "systems", "baseline"}
SYSTEM_KEYS = {"recipe", "settings", "index", "photos", "features", "query_features", "blend", "lists", "distractors",
               "uncropped", "stages", "codebook"}  # fmt: skip
KINDS: Mapping[str, type] = {"settings": dict, "uncropped": bool, "stages": int}  # all others are text
BENCHMARK = "{benchmark}"


def read_experiment(path: Path) -> tuple[dict[str, list[Run]], str | None]:
    """Label -> the runs of that system, one per benchmark, and the label of the baseline.

    `{benchmark}` in the paths of a system stands for the name of each benchmark. Raises `UsageError`, naming the file,
    for anything else than such an experiment.
    """
    try:
        with open_regular(path) as file:
            content = read_yaml(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as an experiment: {error}") from error
    _check_keys(path, "the file", content, KEYS, {"benchmarks", "systems"})
    benchmarks, systems = content["benchmarks"], content["systems"]
    if not isinstance(benchmarks, list) or not all(isinstance(b, str) and ":" in b for b in benchmarks):
        raise UsageError(f"{path}: benchmarks must be a list of NAME:PATH")
    _check_keys(path, "systems", systems, None, set())
    runs = {str(label): [_run(path, str(label), one, b) for b in benchmarks] for label, one in systems.items()}
    baseline = content.get("baseline")
    return runs, None if baseline is None else str(baseline)


def named(text: str, benchmark: str) -> str:
    """`text` with the name of a benchmark in place of `{benchmark}`, and all other braces as they are."""
    return text.replace(BENCHMARK, benchmark)  # `str.format` would obey what stands in them


def _run(path: Path, label: str, system: Any, benchmark: str) -> Run:
    _check_keys(path, f"system {label}", system, SYSTEM_KEYS, {"recipe"})
    name, _, place = benchmark.partition(":")
    options: dict[str, Any] = {}
    for key, value in system.items():
        kind = KINDS.get(key, str)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise UsageError(f"{path}: system {label} has {key}: {value!r}, which must be {_kind(kind)}")
        if value is not None:
            options[key] = named(value, name) if isinstance(value, str) else value
    if "codebook" in options:
        options["codebooks"] = dict([codebook_file(options.pop("codebook"))])
    return Run(benchmark=name, path=place, **options)


def _kind(kind: type) -> str:
    return {dict: "a mapping", bool: "true or false", int: "a whole number"}.get(kind, "text, in quotes if need be")


def _check_keys(path: Path, what: str, value: Any, known: set[str] | None, needed: set[str]) -> None:
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"{path}: {what} must be a mapping that holds something")
    if known is not None and (wrong := sorted(set(map(str, value)) - known)):
        raise UsageError(f"{path}: {what} has the unknown key {wrong[0]!r}: it may have {', '.join(sorted(known))}")
    if absent := sorted(needed - set(value)):
        raise UsageError(f"{path}: {what} lacks {absent[0]!r}")
