"""Every recipe on every set of photographs, and the tables of docs/how-good.md.

    python benchmarks/how_good.py run DATA RESULTS [--rows REGEX] [--sets REGEX]
    python benchmarks/how_good.py collect RESULTS
    python benchmarks/how_good.py page

`run` makes what is missing: one file RESULTS/SET/ROW.json for each, as `resight evaluate ... --json` prints it, and for
peers the ranked lists of benchmarks/peers.py. A run that was stopped goes on where it was. `collect` writes means,
intervals and tests into docs/how-good.json, `page` the tables between the markers of the page. What is run stands in
benchmarks/how_good.yaml. DATA holds holidays, oxford845, smvs, ukbench140, backbones and local_features.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from resight.evaluation.experiment import Result
from resight.evaluation.results import SEED, SIGNIFICANT, read_evaluation
from resight.evaluation.significance import compare, holm, interval

ROOT = Path(__file__).parents[1]
NUMBERS, PAGE, PLAN = ROOT / "docs/how-good.json", ROOT / "docs/how-good.md", Path(__file__).with_suffix(".yaml")
MARKED = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"


@dataclass(frozen=True)
class Job:
    """One row on one set: the words of its command, the file of its result, and for peers the lists to make first."""

    row: str
    set: str
    command: tuple[str, ...]
    result: Path
    peer: tuple[str, ...] = ()


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect", "page"))
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rows", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--sets", default="", help="only sets whose name it finds")
    parser.add_argument("--peers", default="", help="folder of packages that only the peers need")
    arguments = parser.parse_args()
    plan = yaml.safe_load(PLAN.read_text())
    if arguments.what == "run":
        data, results = arguments.folders
        chosen = [
            job
            for job in jobs(plan, str(data), results)
            if re.search(arguments.rows, job.row) and re.search(arguments.sets, job.set)
        ]
        failed = [job for job in chosen if not done(job, arguments.peers)]
        sys.exit(f"{len(failed)} of {len(chosen)} runs failed" if failed else 0)
    if arguments.what == "collect":
        (results,) = arguments.folders
        NUMBERS.write_text(as_lines(collect(plan, results)))
        return
    PAGE.write_text(written(PAGE.read_text(), json.loads(NUMBERS.read_text())))


def jobs(plan: Mapping[str, Any], data: str, results: Path) -> Iterator[Job]:
    """All that the plan asks for, in its order."""
    for row, one in plan["rows"].items():
        for name in plan["sets"]:
            if "of" in one or name in one.get("without", ()):
                continue
            lists = results / name / f"{slug(row)}.txt"
            words = command(plan, row, name, data, str(lists))
            words = (*words, "--failures", str(lists.with_suffix(".html"))) if one.get("failures") else words
            peer: tuple[str, ...] = ()
            if "peer" in one:
                script = str(Path(__file__).with_name("peers.py"))
                peer = (script, *shlex.split(one["peer"].format(data=data)), words[1], str(lists))
            yield Job(row, name, words, results / name / f"{slug(row)}.json", peer)


def command(plan: Mapping[str, Any], row: str, judged: str, data: str, lists: str) -> tuple[str, ...]:
    """The words of `resight evaluate` for a row on a set."""
    one = plan["rows"][row]
    arguments = plan["rows"][one["of"]]["arguments"] if "of" in one else one.get("arguments", "--lists {lists}")
    words = [word.format(data=data, lists=lists) for word in shlex.split(arguments)]
    stages = ["--stages", str(one["stages"])] if "of" in one else []
    return ("evaluate", plan["sets"][judged]["benchmark"].format(data=data), *words, *stages)


def done(job: Job, peers: str) -> bool:
    """Do a job unless its result is there; whether it is there now. `peers`: a folder of packages for the peer."""
    if job.result.exists():
        return True
    job.result.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    if job.peer and not Path(job.peer[-1]).exists():
        paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (peers, os.environ.get("PYTHONPATH"))))}
        if subprocess.run([sys.executable, *job.peer], env=paths).returncode:
            print(f"{job.set}: {job.row}: the peer failed: {shlex.join(job.peer)}", flush=True)
            return False
    found = subprocess.run([sys.executable, "-m", "resight", *job.command, "--json"], capture_output=True)
    if found.returncode:
        print(f"{job.set}: {job.row}: failed: {found.stderr.decode().strip()}", flush=True)
        return False
    partial = job.result.with_suffix(".partial")
    partial.write_bytes(found.stdout)
    partial.rename(job.result)
    print(f"{job.set}: {job.row}: {time.perf_counter() - started:.0f} s", flush=True)
    return True


def collect(plan: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Means, intervals and comparisons with the baseline of all results that are there, by row and column."""
    cells: dict[str, dict[str, Any]] = {row: {} for row in plan["rows"]}
    for name, judged in plan["sets"].items():
        found = {row: result for row in plan["rows"] if (result := read(plan, results, row, name)) is not None}
        for level, column in judged["columns"].items() if found else ():
            top = best(next(iter(found.values())), level)
            scored = {row: per_query(result, level, judged["score"]) for row, result in found.items()}
            for row, cell in measured(scored, plan["baseline"], top).items():
                cells[row][column] = cell
    return {
        "baseline": plan["baseline"],
        "tables": plan["tables"],
        "commands": {row: shown(plan, row) for row in cells},
        "cells": cells,
        "misses": {name: counts for name in plan["sets"] if (counts := misses(results / name, plan["baseline"]))},
    }


def shown(plan: Mapping[str, Any], row: str) -> str:
    """The command of a row as the page shows it, after that of its peer."""
    judged = next(iter(plan["sets"]))
    words = ["resight", *command(plan, row, judged, "DATA", "LISTS.txt")]
    words[2] = "SET"
    peer = plan["rows"][row].get("peer")
    made = "" if peer is None else f"python benchmarks/peers.py {peer.format(data='DATA')} SET LISTS.txt && "
    return made + shlex.join(words)


def misses(folder: Path, row: str) -> dict[str, Any] | None:
    """What a row missed on a set, by cause; None where it was not asked."""
    path = folder / f"{slug(row)}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()).get("misses") if path.exists() else None
    return found


def read(plan: Mapping[str, Any], results: Path, row: str, name: str) -> Result | None:
    """The result of a row on a set, None where it was not run."""
    one = plan["rows"][row]
    path = results / name / f"{slug(one.get('of', row))}.json"
    if not path.exists():
        return None
    return read_evaluation(path).results[one.get("stages", 0) - 1]


def per_query(result: Result, level: str, score: str) -> np.ndarray:
    """The scores (Q,) that a column averages."""
    scores = result.scores[level]
    return scores.ap if score == "ap" else scores.p_at[:, scores.at.index(1)]


def best(result: Result, level: str) -> float:
    """The score of a perfect query: 4 for N-S, else 1."""
    return 4.0 if result.scores[level].metric == "N-S" else 1.0


def measured(scored: Mapping[str, np.ndarray], baseline: str, most: float) -> dict[str, dict[str, Any]]:
    """The cells of one column, whose scores are at most `most`. `holm`: the p-values of all comparisons with the
    baseline, corrected for their number.
    """
    cells: dict[str, dict[str, Any]] = {}
    scale = most if most > 1 else 100.0
    for row, scores in scored.items():
        low, high = interval(scores / most, seed=SEED)
        cells[row] = {"mean": scale * np.nanmean(scores / most), "low": scale * low, "high": scale * high}
    compared = [row for row in scored if row != baseline and baseline in scored]
    pairs = [compare(scored[row] / most, scored[baseline] / most, seed=SEED) for row in compared]
    corrected = holm([pair.p_value for pair in pairs])
    for row, pair, p in zip(compared, pairs, corrected, strict=True):
        cells[row] |= {"difference": scale * pair.difference, "p": pair.p_value, "holm": float(p)}
    return {row: {key: round(float(value), 4) for key, value in cell.items()} for row, cell in cells.items()}


def written(page: str, numbers: Mapping[str, Any]) -> str:
    """The page with its tables as the numbers say. Raises `ValueError` when a marker is missing."""
    for name, columns in numbers["tables"].items():
        page = between(page, name, table(numbers, columns))
    page = between(page, "misses", missed(numbers))
    return between(page, "commands", commands(numbers))


def between(page: str, name: str, content: str) -> str:
    """`content` in place of what stands between the markers `name`."""
    made, count = re.subn(MARKED.format(name=name), lambda m: m[1] + content + m[2], page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has the markers of {name} {count} times: they must stand once")
    return made


def table(numbers: Mapping[str, Any], columns: list[str]) -> str:
    """A Markdown table: mean, interval, and a mark where the row differs from the baseline."""
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for row, cells in numbers["cells"].items():
        if any(column in cells for column in columns):
            lines.append(f"| {row} | {' | '.join(cell(cells.get(column)) for column in columns)} |")
    return "\n".join(lines) + "\n"


def cell(values: Mapping[str, float] | None) -> str:
    """One cell: `*` where it is above the baseline beyond chance, `°` where it is below."""
    if values is None:
        return "–"
    digits = 2 if values["high"] <= 4 else 1
    sure = values.get("holm", 1.0) < SIGNIFICANT
    mark = ("*" if values["difference"] > 0 else "°") if sure else ""
    return f"**{values['mean']:.{digits}f}**{mark} {values['low']:.{digits}f}–{values['high']:.{digits}f}"


def missed(numbers: Mapping[str, Any]) -> str:
    """What the baseline missed, by set and cause."""
    counts = numbers["misses"]
    causes = list(next(iter(counts.values()))["causes"]) if counts else []
    lines = [f"| set | right photos | missed | {' | '.join(causes)} |", "|---|" + "--:|" * (2 + len(causes))]
    for name, one in counts.items():
        of = "" if one["level"] == "plain" else f", {one['level']}"
        each = " | ".join(str(one["causes"][cause]) for cause in causes)
        lines.append(f"| {name}{of} | {one['right']} | {one['missed']} | {each} |")
    return "\n".join(lines) + "\n"


def commands(numbers: Mapping[str, Any]) -> str:
    """The command of every row."""
    lines = [f"| {row} | `{text}` |" for row, text in numbers["commands"].items() if numbers["cells"][row]]
    return "\n".join(["| row | command |", "|---|---|", *lines]) + "\n"


def slug(row: str) -> str:
    """A file name for a row."""
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def as_lines(numbers: Mapping[str, Any]) -> str:
    """JSON with a line for every cell, so that changes can be read."""
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    return re.sub(r"\{\n\s+(\"mean\"[^}]*?)\n\s+\}", lambda m: "{" + re.sub(r"\n\s+", " ", m[1]) + "}", text) + "\n"


if __name__ == "__main__":
    main()
