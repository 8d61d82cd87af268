"""An evaluation as one self-contained HTML page: scores, curves, the worst and the best queries, AP of every query."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import ImageError, UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.experiment import Evaluation
from resight.evaluation.image_files import ImageFiles
from resight.evaluation.metrics import Scores
from resight.evaluation.results import milliseconds, scaled
from resight.evaluation.significance import Comparison
from resight.evaluation.verdicts import JUNK, RIGHT, WRONG, judged, right_rows, shown_level
from resight.images.decode import decode
from resight.images.transform import decode_crop
from resight.types import Box, Ranking
from resight.viz.curves import ap_histogram, precision_recall, recall_precision
from resight.viz.html import BRAND, document, picture, text
from resight.viz.pictures import Pixels, Relevance, encode_jpeg, placeholder
from resight.viz.ranked import RankedItem, ranked_strip

WORST, BEST, SHOWN = 8, 4, 10  # queries at either end, results of each
CELL, STRIP_WIDTH, STRIP_HEIGHT, FIGURE_WIDTH = 132, 1700, 400, 1600
NOT_AT_HAND = "the file is\nnot at hand"
VERDICT: dict[int, Relevance] = {WRONG: False, RIGHT: True, JUNK: "junk"}


def evaluation_page(
    evaluation: Evaluation, files: ImageFiles | None, comparisons: Mapping[str, Comparison] | None = None
) -> str:
    """The page of an evaluation that was just made.

    `files`: where the photos are; words stand for those that are not at hand. `comparisons`: with an earlier result.
    Shows the first level with queries at its two ends, or the medium one of revisited benchmarks. Frames are green for
    right, red for wrong, grey for junk. Raises `UsageError` when the ranking is not there.
    """
    ranking, benchmark = evaluation.final.ranking, evaluation.benchmark
    if ranking is None or benchmark is None:
        raise UsageError("this result was read from a file and holds no rankings: evaluate again to draw them")
    level = shown_level(benchmark)
    scores = evaluation.final.scores[level]
    parts = (
        _header(evaluation, comparisons or {}),
        _notes(evaluation),
        _systems(evaluation),
        _figures(evaluation, benchmark, ranking),
        _ends(benchmark, ranking, scores, level, files),
        _per_query(evaluation),
        "<footer>Made with <b>resight</b>.</footer>",
    )
    return document(f"{evaluation.run.recipe} on {evaluation.run.benchmark}", "\n".join(parts), kind="evaluation")


def curve(benchmark: Benchmark, level: str, ranking: Ranking) -> tuple[Float64, Float64]:
    """Recall levels (101,) and interpolated precision (Q, 101), junk left out. Memory: a byte per ranked result."""
    relevant = np.zeros(ranking.ids.shape, bool)
    positives = np.zeros(len(ranking), np.int64)
    for query, ids in enumerate(ranking.ids):
        verdict = judged(benchmark, level, query, ids)
        kept = verdict[(verdict == RIGHT) | (verdict == WRONG)]
        relevant[query, : len(kept)] = kept == RIGHT
        positives[query] = len(right_rows(benchmark, level, query))
    return recall_precision(relevant, positives)


def _header(evaluation: Evaluation, comparisons: Mapping[str, Comparison]) -> str:
    run, final = evaluation.run, evaluation.final
    rows = [(_name(final.scores, level, scores), f"{scaled(scores):.1f}") for level, scores in final.scores.items()]
    for level, c in comparisons.items():
        change = f"{100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f}), p = {c.p_value:.3g}"
        rows.append(
            (f"against the earlier result, {level}" if len(comparisons) > 1 else "against the earlier result", change)
        )
    rows += [("images", f"{evaluation.images:,}"), ("queries", f"{len(evaluation.queries):,}")]
    rows += [("search", f"{milliseconds(final, len(evaluation.queries))} ms a query")]
    rows += [("memory at most", f"{evaluation.peak_memory / 2**30:.1f} GiB")]
    cells = "".join(f"<div><dt>{text(label)}</dt><dd>{text(value)}</dd></div>" for label, value in rows)
    mark = '<p class="mark">protocol: uncropped</p>' if "protocol: uncropped" in evaluation.protocol else ""
    return f"""<header>{BRAND}
<h1>{text(run.recipe)} on {text(run.benchmark)}</h1>
<p class="subtitle">{text(evaluation.protocol)}</p>{mark}
<dl class="summary">{cells}</dl></header>"""


def _name(every: Mapping[str, Scores], level: str, scores: Scores) -> str:
    mean = (
        "N-S" if scores.metric == "N-S" else f"m{scores.metric.removeprefix('rectangle ').removeprefix('trapezoid ')}"
    )
    return mean if len(every) == 1 else f"{mean} {level}"


def _notes(evaluation: Evaluation) -> str:
    empty = {level: scores.empty for level, scores in evaluation.final.scores.items() if scores.empty}
    notes = [
        *evaluation.notes,
        *(f"{n} queries have no positives ({level}) and are left out" for level, n in empty.items()),
    ]
    lines = "".join(f"<p>{text(note)}</p>" for note in notes)
    return f'<div class="notes"><p><code>{text(evaluation.run.command)}</code></p>{lines}</div>'


def _systems(evaluation: Evaluation) -> str:
    """What every stage adds, to score and to time."""
    levels = list(evaluation.final.scores.items())
    head = "".join(f'<th class="n">{text(_name(dict(levels), level, scores))}</th>' for level, scores in levels)
    rows = "".join(
        f"<tr><td>{text(result.system)}</td>"
        + "".join(f'<td class="n">{scaled(scores):.1f}</td>' for scores in result.scores.values())
        + f'<td class="n">{milliseconds(result, len(evaluation.queries))}</td></tr>'
        for result in evaluation.results
    )
    return f"""<section><h2>Stages</h2><div class="scroll"><table><thead><tr><th>stages</th>{head}
<th class="n">ms a query</th></tr></thead><tbody>{rows}</tbody></table></div></section>"""


def _figures(evaluation: Evaluation, benchmark: Benchmark, ranking: Ranking) -> str:
    charts: list[tuple[str, bytes]] = []
    curves = {}
    for level, scores in evaluation.final.scores.items():
        if scores.empty == len(scores):
            continue
        name = level if len(evaluation.final.scores) > 1 else evaluation.run.recipe
        curves[name] = curve(benchmark, level, ranking)
        of = f"{level}: " if len(evaluation.final.scores) > 1 else ""
        share = 4 if scores.metric == "N-S" else 1
        charts.append(
            (
                f"{of}average precision of the queries" if share == 1 else "share of four found",
                ap_histogram(scores.ap / share),
            )
        )
    if curves:
        charts.insert(
            0, ("precision against recall, mean over queries; shaded: the middle half", precision_recall(curves))
        )
    cards = "".join(
        f"<figure>{picture(png, title, FIGURE_WIDTH)}<figcaption>{text(title)}</figcaption></figure>"
        for title, png in charts
    )
    return f'<section class="figures" aria-label="Figures">{cards}</section>'


def _ends(benchmark: Benchmark, ranking: Ranking, scores: Scores, level: str, files: ImageFiles | None) -> str:
    """The queries with the lowest and the highest scores, with their first results."""
    order = np.lexsort((np.arange(len(scores)), scores.ap))
    order = order[~np.isnan(scores.ap[order])]
    perfect = 4 if scores.metric == "N-S" else 1
    worst = order[scores.ap[order] < perfect][:WORST]
    best = order[len(worst) :][::-1][:BEST]
    strips = ""
    for title, queries in (("Worst queries", worst), ("Best queries", best)):
        if len(queries):
            drawn = "".join(strip(benchmark, ranking, scores, level, files, int(query)) for query in queries)
            strips += f"<section><h2>{title}{'' if level == 'plain' else f' ({level})'}</h2>{drawn}</section>"
    return strips


def strip(
    benchmark: Benchmark, ranking: Ranking, scores: Scores, level: str, files: ImageFiles | None, query: int
) -> str:
    """One query and its first results as a picture: green right, red wrong, grey junk."""
    asked = benchmark.queries[query]
    ids = ranking.ids[query][:SHOWN]
    ids = ids[ids >= 0]
    verdicts = judged(benchmark, level, query, ids).tolist()
    names = [benchmark.images[row] for row in ids]
    items = [
        RankedItem(_pixels(files, int(row)), Path(name).name, VERDICT[verdict])
        for row, name, verdict in zip(ids, names, verdicts, strict=True)
    ]
    path = None if files is None else files.queries[query]
    image = ranked_strip(_read(path, asked.box), items, caption=asked.name, cell=CELL, columns=SHOWN)
    words = ", ".join(("wrong", "right", "junk")[verdict] for verdict in verdicts)
    alt = f"Query {asked.name}; results: {words or 'none'}"
    found = _where(judged(benchmark, level, query, ranking.ids[query]))
    ap = f"{scores.metric} {_printed(scores, scores.ap[query])}, {found}"
    encoded = encode_jpeg(image, STRIP_WIDTH, STRIP_HEIGHT)
    return f"""<figure class="strip"><figcaption><b>{text(asked.name)}</b> {text(ap)}</figcaption>
<div class="scroll">{picture(encoded, alt, STRIP_WIDTH, STRIP_HEIGHT)}</div></figure>"""


def _where(verdicts: NDArray[np.int8]) -> str:
    """The ranks of the first positives, junk not counted."""
    ranks = 1 + np.flatnonzero(verdicts[(verdicts == RIGHT) | (verdicts == WRONG)] == RIGHT)
    if not len(ranks):
        return "nothing right was found"
    first = ", ".join(map(str, ranks[:5].tolist()))
    return f"right at rank {first}" + (f" and {len(ranks) - 5} more" if len(ranks) > 5 else "")


def _pixels(files: ImageFiles | None, row: int) -> Pixels:
    inside = files is not None and row < len(files.images)
    return _read(files.images[row] if files is not None and inside else None, None)


def _read(path: Path | None, box: Box | None) -> Pixels:
    if path is None:
        return placeholder(NOT_AT_HAND)
    try:
        read = decode(path, max_side=2 * CELL) if box is None else decode_crop(path, box, max_side=1024)
    except ImageError:
        return placeholder(NOT_AT_HAND)
    return read.pixels


def _per_query(evaluation: Evaluation) -> str:
    """AP of every query at every level, worst first."""
    scores = evaluation.final.scores
    head = "".join(f"<th>{text(s.metric if len(scores) == 1 else level)}</th>" for level, s in scores.items())
    first = next(iter(scores.values())).ap
    rows = "".join(_query_row(evaluation, int(query)) for query in np.lexsort((np.arange(len(first)), first)))
    return f"""<section><h2>Every query, worst first</h2><div class="scroll"><table>
<thead><tr><th>query</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"""


def _query_row(evaluation: Evaluation, query: int) -> str:
    cells = "".join(_bar(scores, scores.ap[query]) for scores in evaluation.final.scores.values())
    return f"<tr><td>{text(evaluation.queries[query])}</td>{cells}</tr>"


def _printed(scores: Scores, value: float) -> str:
    """The score of one query as its mean is printed: in percent, N-S as it is."""
    return f"{value:.0f}" if scores.metric == "N-S" else f"{100 * value:.1f}"


def _bar(scores: Scores, value: Any) -> str:
    if np.isnan(value):
        return "<td>no positives</td>"
    share = 100 * value / (4 if scores.metric == "N-S" else 1)
    bar = f'<span class="track"><i class="bar" style="width:{share:.1f}%"></i></span>'
    return f"<td>{bar} {_printed(scores, value)}</td>"
