"""Evaluations as JSON and back, comparisons of two of them, and tables of many as csv, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from resight.arrays import Float64
from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation, Result, Run
from resight.evaluation.metrics import Scores
from resight.evaluation.significance import Comparison, compare, interval
from resight.regular_files import read_regular
from resight.version import __version__

FORMAT = 1
SEED = 0
SIGNIFICANT = 0.05


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation for machines: means, times, and the scores of every query. NaN (no positives) becomes null."""
    misses = {} if evaluation.misses is None else {"misses": evaluation.misses.as_json()}
    return {
        "format": FORMAT,
        "resight": __version__,
        "command": evaluation.run.command,
        "run": evaluation.run.as_json(),
        "images": evaluation.images,
        "checksum": evaluation.checksum,
        "protocol": evaluation.protocol,
        "notes": list(evaluation.notes),
        "seconds": evaluation.seconds,
        "peak_memory_bytes": evaluation.peak_memory,
        "memory_per_million_bytes": evaluation.memory_per_million,
        "queries": list(evaluation.queries),
        "systems": [_result_json(result) for result in evaluation.results],
        **misses,
    }


def read_evaluation(path: str | os.PathLike[str]) -> Evaluation:
    """Read what `resight evaluate --json` printed; rankings are not in it. Raises `UsageError` for anything else."""
    try:
        return parse_evaluation(json.loads(read_regular(path)))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a result of resight evaluate --json: {error}") from error


def parse_evaluation(content: Any) -> Evaluation:
    """An `Evaluation` out of the object that `evaluation_json` made. Raises `ValueError` for anything else."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"it is not an object of format {FORMAT}")
    try:
        queries = tuple(str(name) for name in content["queries"])
        if not content["systems"]:
            raise ValueError("it holds no systems")
        return Evaluation(
            run=Run(**content["run"]),
            images=int(content["images"]),
            queries=queries,
            checksum=str(content["checksum"]),
            protocol=str(content["protocol"]),
            results=tuple(_parse_result(system, len(queries)) for system in content["systems"]),
            notes=tuple(str(note) for note in content["notes"]),
            seconds=float(content["seconds"]),
            peak_memory=int(content["peak_memory_bytes"]),
            memory_per_million=_memory(content.get("memory_per_million_bytes")),  # older results have none
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"its fields are not those of a result ({error})") from error


def compare_evaluations(ours: Evaluation, theirs: Evaluation) -> dict[str, Comparison]:
    """Level -> comparison of two whole systems on the same queries.

    Raises `UsageError` when they were not measured on one benchmark under one protocol, or one lacks a query's score.
    """
    if (ours.checksum, ours.protocol) != (theirs.checksum, theirs.protocol):
        raise UsageError(
            f"the two results cannot be compared: one is on {ours.run.benchmark} ({ours.protocol}), the other on "
            f"{theirs.run.benchmark} ({theirs.protocol}), or their lists of images and judgements differ"
        )
    a, b = ours.final.scores, theirs.final.scores
    if not (both := [level for level in a if level in b]):
        raise UsageError(f"the two results have no level in common: {', '.join(a)} here, {', '.join(b)} there")
    return {level: compare(a[level].ap, b[level].ap, seed=SEED) for level in both}


@dataclass(frozen=True)
class Measure:
    """One cell of a table: a mean in percent (N-S scores as they are), queries behind it, and how it compares to the
    baseline row in the same unit: None in that row and where there is no baseline.
    """

    mean: float
    queries: int
    empty: int
    comparison: Comparison | None


@dataclass(frozen=True, eq=False)
class Table:
    """Systems x benchmarks. `rows`: label -> column -> measure; a column that a system was not run on is absent."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Measure]]
    baseline: str | None
    details: tuple[tuple[str, Evaluation], ...]


def tabulate(evaluations: Sequence[tuple[str, Evaluation]], baseline: str | None = None) -> Table:
    """A table of labelled evaluations; equal labels share a row. `baseline`: the label all others are compared to.

    Raises `UsageError` for an unknown baseline, and two results for one cell.
    """
    if baseline is not None and baseline not in (label for label, _ in evaluations):
        raise UsageError(f"there is no system {baseline!r} to compare with")
    base = {column: scores for label, e in evaluations if label == baseline for column, scores in _columns(e).items()}
    rows: dict[str, dict[str, Measure]] = {}
    for label, evaluation in evaluations:
        row = rows.setdefault(label, {})
        for column, scores in _columns(evaluation).items():
            if column in row:
                raise UsageError(f"system {label!r} was measured twice on {column}: give the two runs different names")
            other = base.get(column) if label != baseline else None
            compared = None if other is None else _in_unit(compare(scores.ap, other.ap, seed=SEED), scores)
            row[column] = Measure(scaled(scores), len(scores) - scores.empty, scores.empty, compared)
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return Table(tuple(columns), rows, baseline, tuple(evaluations))


def table_json(table: Table) -> dict[str, Any]:
    """The table and every evaluation behind it, per-query scores included."""
    cells = {
        label: {column: _finite(asdict(measure)) for column, measure in row.items()}
        for label, row in table.rows.items()
    }
    evaluations = [{"label": label, **evaluation_json(evaluation)} for label, evaluation in table.details]
    return {"columns": list(table.columns), "baseline": table.baseline, "cells": cells, "evaluations": evaluations}


def table_csv(table: Table) -> str:
    """One line per cell: system, column, mean, queries, queries without positives, difference, interval, p-value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("system", "column", "mean", "queries", "empty", "difference", "low", "high", "p"))
    for label, row in table.rows.items():
        for column, measure in row.items():
            c = measure.comparison
            rest = ("", "", "", "") if c is None else (c.difference, c.low, c.high, c.p_value)
            writer.writerow((label, column, measure.mean, measure.queries, measure.empty, *rest))
    return out.getvalue()


def table_markdown(table: Table) -> str:
    """A Markdown table, one decimal; * where the difference to the baseline is significant (p < 0.05)."""
    lines = [f"| system | {' | '.join(map(_markdown, table.columns))} |", "|---|" + "--:|" * len(table.columns)]
    lines += [
        f"| {_markdown(label)} | {' | '.join(_cell(row.get(column)) for column in table.columns)} |"
        for label, row in table.rows.items()
    ]
    return "\n".join(lines) + "\n" + _footnote(table)


def table_latex(table: Table) -> str:
    """A LaTeX tabular for booktabs, one decimal; * where the difference to the baseline is significant (p < 0.05)."""
    head = " & ".join(["system", *map(_latex, table.columns)])
    lines = [
        " & ".join([_latex(label), *(_cell(row.get(column), "$^*$") for column in table.columns)]) + r" \\"
        for label, row in table.rows.items()
    ]
    note = "".join(f"% {line}\n" for line in _footnote(table).splitlines() if line)
    body = "\n".join(lines)
    columns = "l" + "r" * len(table.columns)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\n\\bottomrule\n"
        f"\\end{{tabular}}\n{note}"
    )


def scaled(scores: Scores) -> float:
    """The mean as papers print it: AP in percent, the N-S score as it is."""
    return scores.map * _unit(scores)


def spread(scores: Scores) -> tuple[float, float]:
    """The 95 % interval of the mean over queries, in the unit of `scaled`. Queries that found all of their four, or
    none, are hits and misses (`significance.interval`).
    """
    most = 4.0 if scores.metric == "N-S" else 1.0
    low, high = interval(scores.ap / most, seed=SEED)
    return low * most * _unit(scores), high * most * _unit(scores)


def milliseconds(result: Result, queries: int) -> str:
    """Time per query of all stages, reading the query included."""
    value = 1000 * sum(result.seconds.values()) / queries
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _unit(scores: Scores) -> float:
    return 1.0 if scores.metric == "N-S" else 100.0


def _in_unit(found: Comparison, scores: Scores) -> Comparison:
    names = ("mean_a", "mean_b", "difference", "low", "high")
    values: dict[str, Any] = {name: getattr(found, name) * _unit(scores) for name in names}
    return replace(found, **values)


def _columns(evaluation: Evaluation) -> dict[str, Scores]:
    """Column name -> scores of the whole system; the mark of the protocol is part of the name."""
    name = evaluation.run.benchmark + (" +distractors" if evaluation.run.distractors else "")
    mark = " (protocol: uncropped)" if "protocol: uncropped" in evaluation.protocol else ""
    return {
        f"{name}{'' if level == 'plain' else ' ' + level}{mark}": scores
        for level, scores in evaluation.final.scores.items()
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.system,
        "seconds": dict(result.seconds),
        "scores": {level: _scores_json(scores) for level, scores in result.scores.items()},
    }


def _scores_json(scores: Scores) -> dict[str, Any]:
    return {
        "metric": scores.metric,
        "mean": _number(scores.map),
        "interval": [_number(value / _unit(scores)) for value in spread(scores)],
        "empty": scores.empty,
        "at": list(scores.at),
        "mean_p_at": [_number(value) for value in scores.mp_at.tolist()],
        "interval_p_at": [[_number(value) for value in interval(p, seed=SEED)] for p in scores.p_at.T],
        "per_query": [_number(value) for value in scores.ap.tolist()],
        "per_query_p_at": [[_number(value) for value in row] for row in scores.p_at.tolist()],
    }


def _parse_result(content: Any, queries: int) -> Result:
    scores = {}
    for level, values in content["scores"].items():
        at = tuple(int(k) for k in values["at"])
        ap, p_at = _floats(values["per_query"], (queries,)), _floats(values["per_query_p_at"], (queries, len(at)))
        scores[str(level)] = Scores(str(values["metric"]), ap, at, p_at)
    if not scores:
        raise ValueError("a system has no scores")
    return Result(str(content["name"]), scores, {str(k): float(v) for k, v in content["seconds"].items()})


def _memory(value: Any) -> float | None:
    if value is not None and not 0 <= float(value) < math.inf:
        raise ValueError(f"memory_per_million_bytes is {value}")
    return None if value is None else float(value)


def _floats(values: Any, shape: tuple[int, ...]) -> Float64:
    array = np.array(values, np.float64)  # null reads as NaN
    if np.isinf(array).any():
        raise ValueError("a score is infinite")
    if array.size == 0 and 0 in shape:
        return array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"scores of shape {array.shape} stand where {shape} are needed")
    return array


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return _number(value) if isinstance(value, float) else value


def _cell(measure: Measure | None, star: str = "*") -> str:
    if measure is None:
        return "-"
    if math.isnan(measure.mean):
        return "no positives"
    better = measure.comparison is not None and measure.comparison.p_value < SIGNIFICANT
    return f"{measure.mean:.1f}{star if better else ''}"


def _footnote(table: Table) -> str:
    empty = sorted({(c, m.empty) for row in table.rows.values() for c, m in row.items() if m.empty})
    lines = [f"{column}: {count} queries without positives are left out." for column, count in empty]
    if table.baseline is not None:
        lines.insert(0, f"* differs from {table.baseline}, p < {SIGNIFICANT} (paired randomisation test over queries).")
    return "".join(f"\n{line}\n" for line in lines)


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
