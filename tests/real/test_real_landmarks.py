"""Views of four landmarks mixed into Holidays: each finds the others, and nothing else is proven to show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resight.collection import create_collection

DATA = Path(__file__).parents[2] / "../shared/data"
LANDMARKS, HOLIDAYS = DATA / "landmarks", DATA / "holidays/images"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (LANDMARKS.is_dir() and HOLIDAYS.is_dir()), reason=f"no photographs at {LANDMARKS} and {HOLIDAYS}"
    ),
]
VIEWS = {"sacre_coeur": 10, "et": 9, "kermit": 11, "lund": 29}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The first 100 results of every view of a landmark, by its id."""
    collection = create_collection(tmp_path_factory.mktemp("landmarks") / "mixed.resight")
    report = collection.add([LANDMARKS, HOLIDAYS])
    assert (report.added, report.problems) == (59 + 520, [])
    landmarks = [id_ for id_ in collection.ids if "/" in id_]
    return {id_: collection.search(id_, top=100).results for id_ in landmarks}


def of(answers, name):
    found = {id_: results for id_, results in answers.items() if id_.startswith(f"{name}/")}
    assert len(found) == VIEWS[name]
    return found


@pytest.mark.parametrize(("name", "least"), [("sacre_coeur", 0.8), ("et", 0.8), ("kermit", 0.8), ("lund", 0.5)])
def test_every_view_finds_its_siblings(answers, name, least):
    siblings = VIEWS[name] - 1
    share = {
        id_: sum(result.id.startswith(f"{name}/") for result in results[:siblings]) / siblings
        for id_, results in of(answers, name).items()
    }
    worst = min(share, key=lambda id_: share[id_])
    print(f"{name}: mean {np.mean(list(share.values())):.3f}, worst {share[worst]:.3f} ({worst})")
    assert share[worst] >= least


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_else_is_proven_to_show_it(answers, name):
    wrong = [
        (id_, result.id, result.inliers, round(result.verification.significance, 1), result.match)
        for id_, results in of(answers, name).items()
        for result in results
        if result.verification.verified and not result.id.startswith(f"{name}/")
    ]
    assert wrong == []
