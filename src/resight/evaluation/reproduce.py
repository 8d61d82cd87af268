"""Measure published tables again on the data at hand: each run once, every cell with its verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from resight.errors import UsageError
from resight.evaluation.evaluate import check_run, evaluate_once
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.published import Cell, Outcome, PublishedTable, missing_files, reproduce_cell
from resight.progress import Progress, silent

ENVIRONMENT = "RESIGHT_DATA"


def data_folder(given: Path | None) -> Path:
    """Where the data is: `given`, else $RESIGHT_DATA, else ./data."""
    return given or Path(os.environ.get(ENVIRONMENT) or "data")


def reproduce(
    tables: Sequence[PublishedTable], data: Path, *, cache: Path | None = None, progress: Progress = silent
) -> Iterator[Outcome]:
    """The outcome of every cell, as soon as it is known. Cells of one run share it.

    A cell without its files, or whose recipe is not in this version, is MISSING and says so: nothing is made up for it.
    """
    done: dict[str, Evaluation | UsageError] = {}

    def measure(run: Run) -> Evaluation:
        key = json.dumps(run.as_json(), sort_keys=True)
        if key not in done:
            try:
                done[key] = evaluate_once(run, cache=cache, progress=progress)
            except UsageError as error:
                done[key] = error
        found = done[key]
        if isinstance(found, UsageError):
            raise found
        return found

    for table in tables:
        for cell in table.cells:
            yield _with_recipe(cell, data, reproduce_cell(cell, data, measure))


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """One cell for machines."""
    cell = outcome.cell
    return {
        "table": cell.table,
        "row": cell.row,
        "column": cell.column,
        "status": outcome.status,
        "measured": outcome.measured,
        "published": cell.published,
        "tolerance": cell.tolerance,
        "aim": cell.aim,
        "source": cell.source,
        "missing": list(outcome.missing),
        "command": outcome.command,
    }


def _with_recipe(cell: Cell, data: Path, outcome: Outcome) -> Outcome:
    """When files are missing, also say that the recipe is: nobody should fetch data for nothing."""
    if not missing_files(cell, data):
        return outcome
    try:
        check_run(cell.run)
    except UsageError as error:
        return Outcome(cell, "MISSING", None, (*outcome.missing, str(error)), outcome.command)
    return outcome
