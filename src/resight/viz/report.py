"""Search results as one self-contained HTML page: no script, no request, readable from any file share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resight.errors import UsageError
from resight.types import Box
from resight.viz.html import BRAND, document, picture, text
from resight.viz.pictures import Pixels, Relevance, relevance_colour

THUMBNAIL, QUERY_SIDE, PROOF_WIDTH, PROOF_HEIGHT, FIGURE_WIDTH = 240, 480, 900, 700, 1600
WIDE = 2  # times as wide as high


FOOTER = "<footer>Made with <b>resight</b>.</footer>"
GONE = "The file is gone or can no longer be read."


@dataclass(frozen=True, eq=False)
class ReportResult:
    """One result of a query.

    `thumbnail`: (H, W, 3) uint8 pixels or the bytes of a JPEG, PNG or WebP; None where the file is gone, which the page
    says in words. `match`: whether the score passes the
    collection's calibrated threshold, None where there is no threshold. `caption`: what the score rests on, such as
    "57 inliers, affine". `picture`: the match-line picture, encoded. `relevant`: the judgement of a benchmark.
    `evidence`: sentences that say why. Raises `UsageError` on a score that is not finite.
    """

    id: str
    thumbnail: Pixels | bytes | None
    score: float
    match: bool | None = None
    caption: str = ""
    picture: bytes | None = None
    relevant: Relevance = None
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.score):
            raise UsageError(f"result {self.id!r} has score {self.score}: a report shows finite scores")
        relevance_colour(self.relevant)


@dataclass(frozen=True, eq=False)
class ReportQuery:
    """One query with its results, best first.

    `image`: pixels or encoded bytes, None where the file is gone. `box`: the part that was searched for, in original
    pixels of a photo of `size` (width, height); without `size` the pixels of `image` are the original ones.
    `confident`: whether any result is a match; False shows the banner "No confident match", None no banner. `note`: a
    sentence for the banner. `ap`: average precision, where the answer is known. Raises `UsageError` when `confident`
    contradicts the results.
    """

    title: str
    image: Pixels | bytes | None
    results: Sequence[ReportResult]
    confident: bool | None = None
    box: Box | None = None
    size: tuple[int, int] | None = None
    note: str = ""
    ap: float | None = None

    def __post_init__(self) -> None:
        if self.confident is not None and bool(self.confident) != any(result.match for result in self.results):
            said = "confident, but no result is" if self.confident else "not confident, but a result is"
            raise UsageError(f"query {self.title!r} is {said} a match")


@dataclass(frozen=True, eq=False)
class ReportPage:
    """The whole page: `summary` rows of (label, value), `figures` of (title, PNG bytes), then the queries.

    `legend`: sentences under the summary that say what the numbers of the page mean.
    """

    title: str
    subtitle: str = ""
    summary: Sequence[tuple[str, str]] = ()
    figures: Sequence[tuple[str, bytes]] = ()
    queries: Sequence[ReportQuery] = ()
    legend: Sequence[str] = ()


def render(page: ReportPage) -> str:
    """Give the page as one HTML document that needs nothing else: styles inline, pictures as data.

    Pictures are scaled down to what the page shows (thumbnails 240 pixels, queries 480, match pictures 900 wide), so a
    result costs some 15 kB without a match picture and some 100 kB with one. Every text is escaped. Raises `UsageError`
    on bytes that are no JPEG, PNG or WebP, `ArrayError` on arrays that are no pixels.
    """
    parts = [
        header(page.title, page.subtitle, page.summary, page.legend),
        _figures(page.figures),
        _contents(page.queries),
        *(_query(number, query) for number, query in enumerate(page.queries, 1)),
        FOOTER,
    ]
    return document(page.title, "\n".join(part for part in parts if part))


def header(title: str, subtitle: str = "", summary: Sequence[tuple[str, str]] = (), legend: Sequence[str] = ()) -> str:
    """The head of a page: its title, what it is about, its numbers, and what they mean."""
    about = f'<p class="subtitle">{text(subtitle)}</p>' if subtitle else ""
    rows = "".join(f"<div><dt>{text(label)}</dt><dd>{text(value)}</dd></div>" for label, value in summary)
    numbers = f'<dl class="summary">{rows}</dl>' if rows else ""
    meaning = f'<p class="legend">{" ".join(text(sentence) for sentence in legend)}</p>' if legend else ""
    return f"""<header>
{BRAND}
<h1>{text(title)}</h1>
{about}{numbers}{meaning}</header>"""


def _figures(figures: Sequence[tuple[str, bytes]]) -> str:
    if not figures:
        return ""
    cards = "".join(
        f"<figure{_breadth(png)}>{picture(png, title, FIGURE_WIDTH)}<figcaption>{text(title)}</figcaption></figure>"
        for title, png in figures
    )
    return f'<section class="figures" aria-label="Figures">{cards}</section>'


def _breadth(png: bytes) -> str:
    """Pictures of many panels in a row get the whole width of the page."""
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    return ' class="wide"' if png.startswith(b"\x89PNG") and width > WIDE * height else ""


def _contents(queries: Sequence[ReportQuery]) -> str:
    """Links to the queries, each with a dot for its confidence; a page of one query needs none."""
    if len(queries) < 2:
        return ""
    links = "".join(
        f'<li><a href="#q{number}" class="{_state(query)}"><span class="name">{text(query.title)}</span>'
        f"{_tiny_ap(query)}</a></li>"
        for number, query in enumerate(queries, 1)
    )
    return f'<nav aria-label="Queries"><h2>{len(queries)} queries</h2><ol>{links}</ol></nav>'


def _state(query: ReportQuery) -> str:
    return "plain" if query.confident is None else "sure" if query.confident else "unsure"


def _tiny_ap(query: ReportQuery) -> str:
    return "" if query.ap is None else f'<span class="ap">{_ap(query.ap)}</span>'


def _ap(ap: float) -> str:
    return "none" if np.isnan(ap) else f"{100 * ap:.1f}"


def _query(number: int, query: ReportQuery) -> str:
    shown = next((rank for rank, r in enumerate(query.results, 1) if r.match and r.picture), None)
    proof = "" if shown is None else _proof(number, shown, query.results[shown - 1])
    results = _results(number, query, shown)
    ap = "" if query.ap is None else f'<p class="ap"><abbr title="average precision">AP</abbr> {_ap(query.ap)}</p>'
    return f"""<section class="query{" proven" if proof else ""}" id="q{number}">
<div class="head"><h2><bdi>{text(query.title)}</bdi></h2>{ap}{_banner(query)}</div>
<div class="asked">{_asked(query)}</div>
{proof}{results}
{_dialogs(number, query, shown)}</section>"""


def _results(number: int, query: ReportQuery, shown: int | None) -> str:
    """The cards of a query: matches, then small and, where there are matches, folded, what is none."""
    ranked = list(enumerate(query.results, 1))
    if not ranked:
        return '<p class="empty">No results.</p>'

    def grid(kind: str, chosen: Sequence[tuple[int, ReportResult]]) -> str:
        cards = "".join(_card(f"q{number}r{rank}", rank, result, inline=rank == shown) for rank, result in chosen)
        return f'<ol class="{kind}">{cards}</ol>' if cards else ""

    first = grid("results", [(rank, result) for rank, result in ranked if result.match is not False])
    others = [(rank, result) for rank, result in ranked if result.match is False]
    rest = grid("results small", others)
    if not (first and rest):
        return first or rest
    missed = " open" if any(result.relevant is True for _, result in others) else ""
    count = f"{_count(len(others), 'more photo', 'more photos')}, no match"
    return f'{first}<details class="rest"{missed}><summary>{count}</summary>{rest}</details>'


def _banner(query: ReportQuery) -> str:
    note = f" <span>{text(query.note)}</span>" if query.note else ""
    if query.confident is None:
        return f'<p class="banner plain">{note}</p>' if note else ""
    if query.confident:
        matches = sum(bool(result.match) for result in query.results)
        return f'<p class="banner sure"><b>{_count(matches, "match", "matches")}</b>{note}</p>'
    closest = " <span>The closest photos are shown; none stands out from chance.</span>" if query.results else ""
    return f'<p class="banner unsure"><b>No confident match</b>{note or closest}</p>'


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _asked(query: ReportQuery) -> str:
    if query.image is None:
        return f'<p class="gone">{GONE}</p>'
    image = picture(query.image, f"Query {query.title}", QUERY_SIDE, lazy=False)
    caption = "Query" if query.box is None else f"Query, searched inside the box {query.box}"
    return f'<figure><div class="frame">{image}{_box(query)}</div><figcaption>{caption}</figcaption></figure>'


def _box(query: ReportQuery) -> str:
    """The searched box as an overlay in per cent of the photo, whatever size the photo is shown at."""
    if query.box is None:
        return ""
    width, height = query.size or _own_size(query)
    box = query.box.inside(width, height)
    left, top = 100 * box.x / width, 100 * box.y / height
    across, down = 100 * box.width / width, 100 * box.height / height
    return f'<i class="box" style="left:{left:.2f}%;top:{top:.2f}%;width:{across:.2f}%;height:{down:.2f}%"></i>'


def _own_size(query: ReportQuery) -> tuple[int, int]:
    if query.image is None or isinstance(query.image, bytes):
        raise UsageError(f"query {query.title!r} has a box and encoded pixels: give the size of the original photo too")
    return query.image.shape[1], query.image.shape[0]


def _proof(number: int, rank: int, result: ReportResult) -> str:
    """The match-line picture of the best match, open on the page."""
    assert result.picture is not None
    image = picture(result.picture, _alt(result), PROOF_WIDTH, PROOF_HEIGHT)
    return f"""<figure class="proof" id="q{number}r{rank}">{image}
<figcaption>{_explanation(rank, result)}</figcaption></figure>
"""


def _alt(result: ReportResult) -> str:
    return f"Matches between the query and {result.id}" + (f": {result.caption}" if result.caption else "")


def _explanation(rank: int, result: ReportResult) -> str:
    reasons = "".join(f"<li>{text(sentence)}</li>" for sentence in result.evidence)
    caption = f' <span class="caption">{text(result.caption)}</span>' if result.caption else ""
    why = f"<ul>{reasons}</ul>" if reasons else ""
    return f"<p><b>#{rank} <bdi>{text(result.id)}</bdi></b> {_badge(result)}{caption}</p>{why}"


def _badge(result: ReportResult) -> str:
    if result.match is None:
        return ""
    return f'<span class="badge {"yes" if result.match else "no"}">{"match" if result.match else "no match"}</span>'


def _verdict(relevant: Relevance) -> tuple[str, str]:
    if relevant is None:
        return "", ""
    name, sign = (
        ("junk", "○ junk") if relevant == "junk" else ("right", "✓ right") if relevant else ("wrong", "✗ wrong")
    )
    return name, f'<span class="verdict">{sign}</span>'


def _card(anchor: str, rank: int, result: ReportResult, inline: bool) -> str:
    """One thumbnail; it opens its proof, which is on the page already when `inline`."""
    image = thumbnail(result.thumbnail, f"Result {rank}: {result.id}")
    if inline:
        image = f'<a href="#{anchor}" title="Shown above">{image}</a>'
    elif _has_dialog(result):
        image = f'<button type="button" popovertarget="{anchor}">{image}<span class="open">why?</span></button>'
    name, verdict = _verdict(result.relevant)
    caption = f'<p class="caption">{text(result.caption)}</p>' if result.caption else ""
    return f"""<li class="card {name}"><div class="thumb">{image}<span class="rank">{rank}</span>{verdict}</div>
<p class="line">{_badge(result)}<span class="score">score {_score(result.score)}</span></p>
{caption}{photo_name(result.id)}</li>
"""


def _score(score: float) -> str:
    return f"{score:.3g}" if abs(score) < 10 else f"{score:.1f}"


def thumbnail(image: Pixels | bytes | None, alt: str) -> str:
    """A small picture of a photo, or that its file is gone."""
    return f'<span class="gone">{GONE}</span>' if image is None else picture(image, alt, THUMBNAIL)


def photo_name(photo: str) -> str:
    """The file name of an id in full and its folder cut to one line: the end of a path tells photos apart."""
    folder, _, name = photo.rpartition("/")
    inside = f'<span class="folder"><bdi>{text(folder)}</bdi></span>' if folder else ""
    return f'<p class="id" title="{text(photo)}"><bdi>{text(name or photo)}</bdi>{inside}</p>'


def _has_dialog(result: ReportResult) -> bool:
    return result.picture is not None or bool(result.evidence)


def _dialogs(number: int, query: ReportQuery, shown: int | None) -> str:
    return "".join(
        _dialog(f"q{number}r{rank}", rank, result)
        for rank, result in enumerate(query.results, 1)
        if rank != shown and _has_dialog(result)
    )


def _dialog(anchor: str, rank: int, result: ReportResult) -> str:
    """The proof of one result in a native popover: it opens by its button and closes by Escape, without a script."""
    image = "" if result.picture is None else picture(result.picture, _alt(result), PROOF_WIDTH, PROOF_HEIGHT)
    return f"""<div popover id="{anchor}" class="dialog" role="dialog" aria-label="Result {rank}">{image}
<div class="why">{_explanation(rank, result)}</div>
<button type="button" class="close" popovertarget="{anchor}" popovertargetaction="hide" aria-label="Close">×</button>
</div>
"""
