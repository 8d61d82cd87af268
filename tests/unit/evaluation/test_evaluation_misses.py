from pathlib import Path

import numpy as np
import pytest

from onnx_factory import write_network
from photo_factory import SMALL, picture, save, view
from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol
from resight.evaluation.evaluate import evaluate, opened
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.misses import BEATEN, CAUSES, NO_CANDIDATE, NOT_PROVEN, Miss, missed
from resight.evaluation.misses_page import misses_page
from resight.evaluation.photos import shown_files
from resight.evaluation.results import evaluation_json, parse_evaluation

PROTOCOL = Protocol(crop="whole", ap="rectangle", junk="none", own_photo="junk")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder `beaten` lacks the copy of its first photo, which lies in `thief`; the photos in `apart` differ."""
    root = tmp_path_factory.mktemp("photos")
    places = {"beaten/a.jpg": (0, 0), "beaten/b.jpg": (0, 1), "apart/a.jpg": (1, 0), "apart/b.jpg": (2, 0)}
    for name, (thing, k) in places.items():
        (root / name).parent.mkdir(exist_ok=True)
        save(root / name, view(picture(thing), k))
    (root / "thief").mkdir()
    save(root / "thief/copy.jpg", view(picture(0), 0), quality=60)
    for number in range(3, 6):
        save(root / "thief" / f"{number}.jpg", picture(number))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def classic(photos: Path, cache: Path, **settings: object) -> Evaluation:
    return evaluate(Run("folders", str(photos), settings={**SMALL, **settings}), cache=cache, misses=True)


def of(found: Evaluation, query: str, row: str) -> Miss:
    assert found.misses is not None
    assert found.benchmark is not None
    number = [one.name for one in found.benchmark.queries].index(query)
    place = found.benchmark.images.index(row)
    (miss,) = [one for one in found.misses.found if (one.query, one.row) == (number, place)]
    return miss


def test_what_is_not_among_the_first_is_missed() -> None:
    truth = {"ok": np.array([1, 3, 5]), "junk": np.array([0])}
    names = tuple(f"{i}.jpg" for i in range(7))
    benchmark = Benchmark("toy", names, (BenchmarkQuery("0", "0.jpg", row=0),), (truth,), PROTOCOL, "", "", 7)
    rows, ranks, rival = missed(benchmark, "plain", 0, np.array([0, 1, 4, 2, 3]))
    assert (rows.tolist(), ranks.tolist(), rival) == ([3, 5], [4, 0], 4)
    rows, ranks, rival = missed(benchmark, "plain", 0, np.array([5, 3, 0, 1, 2]))
    assert (rows.tolist(), ranks.tolist(), rival) == ([], [], 2)
    assert missed(benchmark, "plain", 0, np.array([5, 3]))[2] == -1


def test_every_cause_is_told_from_the_others(photos: Path, cache: Path) -> None:
    found = classic(photos, cache)
    beaten = of(found, "beaten/a.jpg", "beaten/b.jpg")
    assert (beaten.cause, beaten.rank) == (BEATEN, 2)
    assert of(found, "apart/a.jpg", "apart/b.jpg").cause == NOT_PROVEN
    assert found.misses is not None
    assert found.benchmark is not None
    wrong, right = found.misses.drawn[beaten.query]
    assert found.benchmark.images[wrong.row] == "thief/copy.jpg"
    assert found.benchmark.images[right.row] == "beaten/b.jpg"
    assert right.transform is not None
    assert right.inliers.sum() >= 5
    assert len(right.ours) == len(right.theirs) == len(right.inliers)


def test_a_photo_that_geometry_never_saw_is_no_candidate(photos: Path, cache: Path) -> None:
    found = classic(photos, cache, verify=1, expand=False)
    assert of(found, "apart/a.jpg", "apart/b.jpg").cause == NO_CANDIDATE
    assert of(found, "beaten/a.jpg", "beaten/b.jpg").cause == NO_CANDIDATE, "the query itself is its one candidate"


def test_misses_change_no_score_and_are_counted(photos: Path, cache: Path) -> None:
    found = classic(photos, cache)
    plain = evaluate(Run("folders", str(photos), settings=SMALL), cache=cache)
    ours, theirs = evaluation_json(found), evaluation_json(plain)
    assert [one["scores"] for one in ours["systems"]] == [one["scores"] for one in theirs["systems"]]
    assert "misses" not in theirs
    counts = ours["misses"]
    assert sum(counts["causes"].values()) == counts["missed"] > 0
    assert tuple(counts["causes"]) == CAUSES
    assert counts["right"] == 2 + 2 + 4 * 3
    assert parse_evaluation(ours).final.scores.keys() == found.final.scores.keys()


def test_the_page_says_why(photos: Path, cache: Path) -> None:
    found = classic(photos, cache)
    html = misses_page(found, shown_files(found.run, opened(found.run)))
    assert "beaten/b.jpg, at rank 2: geometry proved it, and yet a wrong photo counted for more" in html
    assert "apart/b.jpg" in html
    assert "geometry looked at it and did not prove it" in html
    assert html.count("Missed: <b>") == html.count("First wrong: <b>") == len({m.query for m in found.misses.found})
    assert found.misses.sentence in html
    assert "not at hand" not in html
    assert misses_page(found, None).count("<img") == html.count("<img"), "words stand for photos"


def test_an_evaluation_without_misses_has_no_page(photos: Path, cache: Path) -> None:
    plain = evaluate(Run("folders", str(photos), settings=SMALL), cache=cache)
    with pytest.raises(UsageError, match="evaluate again with --failures"):
        misses_page(plain, None)


def test_a_recipe_without_geometry_is_refused(photos: Path, cache: Path, tmp_path: Path) -> None:
    network = write_network(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="recipe gem proves nothing by geometry"):
        evaluate(Run("folders", str(photos), "gem", {"backbone": str(network)}), cache=cache, misses=True)


def test_a_photo_that_cannot_be_read_is_no_candidate(tmp_path: Path, cache: Path) -> None:
    for name, thing in {"a/0.jpg": 0, "a/1.jpg": 0, "b/0.jpg": 1, "b/1.jpg": 1}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, view(picture(thing), int(name[2])))
    (tmp_path / "pairs.csv").write_text("query,positive,junk\na/0.jpg,a/1.jpg,a/0.jpg\na/0.jpg,a/broken.jpg,\n")
    (tmp_path / "a/broken.jpg").write_bytes(b"no photo")
    run = Run("csv", str(tmp_path / "pairs.csv"), settings=SMALL)
    found = evaluate(run, cache=cache, misses=True)
    assert of(found, "a/0.jpg", "a/broken.jpg").cause == NO_CANDIDATE
    html = misses_page(found, shown_files(run, opened(run)))
    assert "a/broken.jpg, not in the list: no search brought it before geometry" in html
