"""One setting of a run over several values: what it does to the score and to the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resight.errors import UsageError
from resight.evaluation.evaluate import check_run, evaluate_once
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.results import scaled
from resight.progress import Progress, silent
from resight.viz.separation import study as draw_lines


@dataclass(frozen=True, eq=False)
class Studied:
    """`evaluations` of one run with each of `values` for the setting `name`, in their order."""

    name: str
    values: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def scores(self) -> dict[str, list[tuple[float, float]]]:
        """Level -> (value, mean score as papers print it)."""
        means = [{level: scaled(one) for level, one in found.final.scores.items()} for found in self.evaluations]
        return {level: [(v, one[level]) for v, one in zip(self.values, means, strict=True)] for level in means[0]}

    @property
    def seconds(self) -> list[tuple[float, float]]:
        """(value, seconds of all queries, with what the recipe makes for them: graphs, training)."""
        totals = [sum(found.final.seconds.values()) for found in self.evaluations]
        return list(zip(self.values, totals, strict=True))

    def score_figure(self) -> bytes:
        """The scores over the setting, PNG."""
        lines = {"mAP" if level == "plain" else level: points for level, points in self.scores.items()}
        return draw_lines(lines, self.name, "score")

    def time_figure(self) -> bytes:
        """The seconds over the setting, PNG."""
        return draw_lines({"all queries": self.seconds}, self.name, "seconds")


def run_study(
    run: Run, name: str, values: Sequence[Any], *, cache: Path | None = None, progress: Progress = silent
) -> Studied:
    """Do `run` once for each of `values`, numbers, of its setting `name`; finished runs are read, not done again.

    Raises `UsageError` for fewer than two values, one that is no number, and as `evaluate`.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) < 2:
        raise UsageError(f"{name}={values}: give at least two numbers in brackets, such as {name}=[1,2,4]")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise UsageError(f"{name}={values} are not all numbers: only numbers can be drawn")
    if name in run.settings:
        raise UsageError(f"setting {name} is given and varied: leave it out of --set")
    runs = [replace(run, settings={**run.settings, name: value}) for value in values]
    for one in runs:
        check_run(one)
    found = tuple(evaluate_once(one, cache=cache, progress=progress) for one in runs)
    return Studied(name, tuple(float(value) for value in values), found)
