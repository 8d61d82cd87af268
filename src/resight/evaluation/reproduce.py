"""Measure published tables again on the data at hand: each run once, every cell with its verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from resight.errors import ResightError, UsageError
from resight.evaluation.evaluate import check_run, evaluate_once
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.published import Cell, Outcome, PublishedTable, command_of, missing_files, reproduce_cell
from resight.progress import Progress, silent
from resight.training.orders import Ordered, made

ENVIRONMENT = "RESIGHT_DATA"


def data_folder(given: Path | None) -> Path:
    """Where the data is: `given`, else $RESIGHT_DATA, else ./data."""
    return given or Path(os.environ.get(ENVIRONMENT) or "data")


Train = Callable[[Ordered, Path, Progress], None]


def reproduce(
    tables: Sequence[PublishedTable],
    data: Path,
    *,
    cache: Path | None = None,
    train: Train | None = None,
    progress: Progress = silent,
) -> Iterator[Outcome]:
    """The outcome of every cell, as soon as it is known. Cells of one run share it, and cells of one network too.

    `train` makes the files of an order in the data folder, when all else that a cell needs is there; without, such
    cells are MISSING. A cell without its files, or whose recipe is not in this version, is MISSING and says so: nothing
    is made up for it.
    """
    done: dict[str, Evaluation | UsageError] = {}
    refused: dict[str, str] = {}

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
            fault = _trained(cell, data, train, refused, progress)
            if fault:
                yield Outcome(cell, "MISSING", None, (fault,), command_of(cell, data))
            else:
                yield _with_recipe(cell, data, reproduce_cell(cell, data, measure))


def _trained(cell: Cell, data: Path, train: Train | None, refused: dict[str, str], progress: Progress) -> str:
    """Make what a cell lacks but can be trained; why that cannot be done, "" where nothing is in the way."""
    if missing_files(cell, data):
        return ""
    for order in cell.orders:
        if made(order, data):
            continue
        if train is None:
            return f"{data / order.out} is not trained yet: {order.command(data)}"
        if order.out not in refused:
            try:
                train(order, data, progress)
            except ResightError as error:
                refused[order.out] = f"{order.out} cannot be trained: {error}"
        if order.out in refused:
            return refused[order.out]
    return ""


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
