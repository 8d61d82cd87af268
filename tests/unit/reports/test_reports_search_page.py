"""The page of a search: what it opens with, and what it says of its numbers."""

from __future__ import annotations

import os
import shutil

from resight.collection import open_collection
from resight.collection.answer import MatchRule
from resight.reports.search_page import legend, report_query, search_page
from resight.viz.report import render


def test_an_indexed_photo_is_not_shown_against_itself(built):
    """Asked by its path it is its own first result: that proves nothing, the page opens with the next match."""
    collection, name = open_collection(built.path), built.photos.groups[0][0]
    answer = collection.search(built.photos.folder / name)
    assert answer.results[0].id == name
    query = report_query(collection, answer)
    first, second = query.results[:2]
    assert (first.picture, first.evidence, first.caption) == (None, (), "the same file as the query")
    assert second.match
    assert second.picture is not None
    assert '<figure class="proof" id="q1r2">' in render(search_page(collection, answer))


def test_a_photo_that_vanished_is_said_in_words(copied, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(built_folder := copied.photos.folder, folder)
    collection = open_collection(copied.path)
    collection.add([folder])
    lost = next(
        id_ for id_ in collection.ids if collection.snapshot.photo(collection.ids[id_])["path"].startswith(str(folder))
    )
    answer = collection.search(built_folder / os.path.basename(lost))
    (folder / os.path.basename(lost)).unlink()
    shown = {result.id: result.thumbnail for result in report_query(collection, answer).results}
    assert shown[lost] is None


def test_the_legend_explains_score_inliers_and_match():
    words = " ".join(legend(MatchRule(24.0, proof=True)))
    assert "score counts standard deviations" in words
    assert "Inliers are features" in words
    assert "A match needs a score of 24.0 or more and proof by its inliers." in words
    assert "Inliers" not in " ".join(legend(MatchRule(7.0, proof=False)))
    assert "without saying what is a match" in " ".join(legend(MatchRule(None, proof=False)))
