"""A page of what an evaluation missed: the worst queries, what was found instead, and the matched features of both."""

from __future__ import annotations

import numpy as np
from PIL.Image import Image

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.experiment import Evaluation
from resight.evaluation.image_files import ImageFiles
from resight.evaluation.misses import BEATEN, NO_CANDIDATE, NOT_PROVEN, Matched, Miss, Misses
from resight.evaluation.page import NOT_AT_HAND, strip
from resight.images.decode import decode
from resight.viz.html import BRAND, document, picture, text
from resight.viz.matches import draw_matches
from resight.viz.pictures import encode_jpeg, placeholder

QUERIES = 12  # with misses, the worst first
SIDE, WIDTH = 640, 1200  # pixels of the photos that matches are drawn on, and of the drawing
WHY = {
    NO_CANDIDATE: "no search brought it before geometry",
    NOT_PROVEN: "geometry looked at it and did not prove it",
    BEATEN: "geometry proved it, and yet a wrong photo counted for more",
}


def misses_page(evaluation: Evaluation, files: ImageFiles | None) -> str:
    """The page of an evaluation that was just made with `misses`: counts by cause, and of the worst queries the first
    results, the matches with the right photo that was missed, and those with the wrong one that stands first.

    `files`: where the photos are. Raises `UsageError` when the evaluation was made without misses.
    """
    misses, benchmark = evaluation.misses, evaluation.benchmark
    if misses is None or benchmark is None:
        raise UsageError("this result does not say what was missed: evaluate again with --failures")
    scores = evaluation.final.scores[misses.level]
    of_query: dict[int, list[Miss]] = {}
    for miss in misses.found:
        of_query.setdefault(miss.query, []).append(miss)
    worst = sorted(of_query, key=lambda query: (float(scores.ap[query]), query))[:QUERIES]
    cards = "".join(_card(evaluation, benchmark, misses, files, query, of_query[query]) for query in worst)
    run = evaluation.run
    body = f"""<header>{BRAND}<h1>What {text(run.recipe)} missed on {text(run.benchmark)}</h1>
<p class="subtitle">{text(misses.sentence)}. A right photo is missed when it is not among the first R results of a query
that has R right ones.</p></header>
<div class="notes"><p><code>{text(run.command)}</code></p></div>
<section><h2>The worst {len(worst)} queries</h2>{cards}</section>
<footer>Made with <b>resight</b>.</footer>"""
    return document(f"What {run.recipe} missed on {run.benchmark}", body, kind="evaluation")


def _card(
    evaluation: Evaluation,
    benchmark: Benchmark,
    misses: Misses,
    files: ImageFiles | None,
    query: int,
    missed: list[Miss],
) -> str:
    """One query: its first results, the sentences, two drawings."""
    ranking = evaluation.final.ranking
    assert ranking is not None  # evaluations with misses were just made
    scores = evaluation.final.scores[misses.level]
    drawings = ""
    for what, matched in zip(("First wrong", "Missed"), misses.drawn.get(query, ()), strict=False):
        name = benchmark.images[matched.row]
        image = encode_jpeg(_drawing(benchmark, files, query, matched), WIDTH, WIDTH)
        proof = f"{int(matched.inliers.sum())} of {len(matched.inliers)} matches agree" + (
            "" if matched.transform is not None else ", no proof"
        )
        drawings += f"""<figure class="strip"><figcaption>{what}: <b>{text(name)}</b>, {proof}</figcaption>
<div class="scroll">{picture(image, f"Query and {name}: {proof}", WIDTH)}</div></figure>"""
    lines = "".join(f"<li>{text(_sentence(benchmark, miss))}</li>" for miss in missed[:5])
    more = f"<li>and {len(missed) - 5} more</li>" if len(missed) > 5 else ""
    return strip(benchmark, ranking, scores, misses.level, files, query) + f"<ul>{lines}{more}</ul>" + drawings


def _sentence(benchmark: Benchmark, miss: Miss) -> str:
    place = f"at rank {miss.rank}" if miss.rank else "not in the list"
    return f"{benchmark.images[miss.row]}, {place}: {WHY[miss.cause]}"


def _drawing(benchmark: Benchmark, files: ImageFiles | None, query: int, matched: Matched) -> Image:
    """The query beside a photo, with their matches; the query's box as its outline."""
    pixels, sizes = [], []
    asked = None if files is None else files.queries[query]
    for path in (asked, None if files is None else files.images[matched.row]):
        photo = None if path is None else decode(path, max_side=SIDE)
        pixels.append(placeholder(NOT_AT_HAND) if photo is None else photo.pixels)
        sizes.append(None if photo is None else (float(photo.width), float(photo.height)))
    box = benchmark.queries[query].box
    corners = None if box is None else [(box.x, box.y), (box.x + box.width, box.y)]
    if box is not None and corners is not None:
        corners += [(box.x + box.width, box.y + box.height), (box.x, box.y + box.height)]
    return draw_matches(
        pixels[0],
        pixels[1],
        matched.ours,
        matched.theirs,
        inliers=matched.inliers,
        transform=matched.transform,
        outline=None if corners is None else np.array(corners),
        size_a=sizes[0],
        size_b=sizes[1],
        max_width=WIDTH,
    )
