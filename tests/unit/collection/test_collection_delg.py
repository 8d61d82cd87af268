"""A collection of DELG's global and local features: what the one finds, the other orders."""

from __future__ import annotations

from delg_factory import write_delg
from photo_factory import make_photos
from resight.collection import create_collection

LOCAL = {"delg.dim": 6, "delg.count": 150, "delg.scales": [1.0, 0.7071], "delg.max_side": 320, "words": 16}


def test_delg_reranked(tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    options = {"weights": write_delg(tmp_path / "delg.pyth"), "vector.max_side": 320, "vector.scales": [1.0], **LOCAL}
    collection = create_collection(tmp_path / "c.resight", "delg-reranked", options)
    collection.add([photos.folder])
    name = photos.groups[0][0]
    answer = collection.search(name, tolerance=8.0)
    assert len(answer.results) == len(collection.ids) - 1
    assert all(result.score >= 1 for result in answer.results)
    plain = collection.search(name, verify=2)  # the photo itself is the first
    assert plain.results[0].score >= 1 > plain.results[1].score
    evidence = collection.explain(name, answer.results[0].id).evidence
    assert [one.stage for one in evidence][-1] == "NearestRerank"
