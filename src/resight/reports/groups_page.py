"""Groups of photos as a page of HTML: things of a collection, or duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resight.collection.collection import Collection
from resight.reports.pictures import shown_pixels
from resight.viz.html import document, text
from resight.viz.report import FOOTER, header, photo_name, thumbnail


@dataclass(frozen=True)
class ShownGroup:
    """One group on the page: its `title`, the `ids` of its photos, and a caption for each, which may be empty."""

    title: str
    ids: Sequence[str]
    captions: Sequence[str]


def groups_page(
    collection: Collection, title: str, groups: Sequence[ShownGroup], legend: Sequence[str], nothing: str
) -> str:
    """The page of `groups`. `legend`: sentences that say what joins photos; `nothing`: what to say without a group."""
    snapshot = collection.snapshot
    ids = [id_ for group in groups for id_ in group.ids]
    summary = [
        ("collection", collection.path.name),
        ("photos", str(len(snapshot.ids))),
        ("groups", str(len(groups))),
        ("photos in groups", str(len(ids))),
    ]
    sections = "".join(_section(collection, number, group) for number, group in enumerate(groups, 1))
    body = sections or f'<p class="empty">{text(nothing)}</p>'
    return document(title, "\n".join((header(title, "", summary, legend), body, FOOTER)))


def _section(collection: Collection, number: int, group: ShownGroup) -> str:
    cards = "".join(_card(collection, id_, caption) for id_, caption in zip(group.ids, group.captions, strict=True))
    return f"""<section class="query" id="g{number}"><div class="head"><h2>{text(group.title)}</h2></div>
<ol class="results">{cards}</ol></section>
"""


def _card(collection: Collection, id_: str, caption: str) -> str:
    snapshot = collection.snapshot
    image = thumbnail(shown_pixels(snapshot.photo(snapshot.ids[id_])["path"]), id_)
    line = f'<p class="caption">{text(caption)}</p>' if caption else ""
    return f'<li class="card"><div class="thumb">{image}</div>{line}{photo_name(id_)}</li>'
