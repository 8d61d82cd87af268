"""Rankings as the file that the landmark retrieval challenge takes: `id,images`, the first hundred of every query."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation
from resight.store.folder import write_atomic

TOP = 100  # results that count in the challenge


def write_submission(path: Path, evaluation: Evaluation, top: int = TOP) -> None:
    """Write a line `id,images` for every query of a run: the ids of its first `top` results, separated by blanks, best
    first. An id is the name of a photo without folder and suffix; the file appears whole or not at all.

    Raises `UsageError` for a run that was read from a file, without its ranking, and for ids that are not unique.
    """
    benchmark, ranking = evaluation.benchmark, evaluation.final.ranking
    if benchmark is None or ranking is None:
        raise UsageError(f"there is no ranking to write to {path}: run the evaluation again")
    images = _ids("images", list(benchmark.images))
    queries = _ids("queries", list(evaluation.queries))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "images"))
    for query, row in zip(queries, ranking.ids[:, :top].tolist(), strict=True):
        writer.writerow((query, " ".join(images[place] for place in row if place >= 0)))
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _ids(what: str, names: list[str]) -> list[str]:
    found = [PurePosixPath(name).stem for name in names]
    if len(set(found)) < len(found):
        raise UsageError(
            f"{len(found) - len(set(found))} {what} share an id with another: a submission names each once"
        )
    return found
