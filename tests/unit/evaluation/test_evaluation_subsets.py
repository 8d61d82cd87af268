"""Parts of published sets: JSON files of names, and photos by phones."""

import json
from pathlib import Path

import numpy as np
import pytest

from photo_factory import picture, save
from resight.errors import UsageError
from resight.evaluation.ground_truth import open_benchmark
from resight.evaluation.image_files import find_images
from resight.types import Box

QUERY = {"image": "q", "bbox_xyxy_at_640": [1, 2, 31, 42], "easy": ["a"], "hard": ["c"], "junk": ["b"]}
CLASSIC = {"hall_1": {"image": "a", "bbox_xyxy_at_640": [1, 2, 31, 42], "good": ["a"], "ok": ["c"], "junk": ["b"]}}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save(folder / name, picture(1, 24, 32))
    return folder


def test_a_part_of_revisited_oxford(tmp_path: Path) -> None:
    photos(tmp_path / "images", "q.jpg", "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path / "ground_truth_roxford_subset.json", {"queries": [QUERY], "gallery": ["a", "b", "c"]})
    benchmark = open_benchmark(f"roxford845:{tmp_path}")
    assert benchmark.images == ("a", "b", "c")
    assert (benchmark.queries[0].box, benchmark.queries[0].row) == (Box(1, 2, 30, 40), None)
    assert {label: rows.tolist() for label, rows in benchmark.judgements[0].items()} == {
        "easy": [0],
        "hard": [2],
        "junk": [1],
    }
    assert find_images(benchmark, tmp_path).missing == ()
    scores = benchmark.score(np.array([[0, 1, 2]]))
    assert [scores[level].map for level in ("easy", "medium", "hard")] == [1, 1, 1]


def test_classic_queries_of_a_part_of_oxford(tmp_path: Path) -> None:
    photos(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    benchmark = open_benchmark(f"oxford845:{write(tmp_path / 'ground_truth_classic55.json', CLASSIC)}")
    assert benchmark.images == ("a", "b", "c", "d")
    assert (benchmark.queries[0].name, benchmark.queries[0].row) == ("hall_1", 0)
    assert {label: rows.tolist() for label, rows in benchmark.judgements[0].items()} == {"ok": [0, 2], "junk": [1]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "queries and gallery are needed"),
        ({"queries": [QUERY], "gallery": "abc"}, "not a list of image names"),
        ({"queries": [], "gallery": ["a"]}, "not objects with an image"),
        ({"queries": [{**QUERY, "easy": ["z"]}], "gallery": ["a", "b", "c"]}, "1 names are not in the image list: z"),
        ({"queries": [{**QUERY, "bbox_xyxy_at_640": [1, 2]}], "gallery": ["a", "b", "c"]}, "is not four numbers"),
    ],
)
def test_other_files_are_refused(content: object, says: str, tmp_path: Path) -> None:
    file = write(tmp_path / "part.json", content)
    with pytest.raises(UsageError, match=says):
        open_benchmark(f"roxford845:{file}")


def test_photos_by_phones(tmp_path: Path) -> None:
    for kind in ("covers", "paintings"):
        photos(tmp_path / kind, "Query/001.jpg", "Query/002.jpg", "Reference/001.jpg", "Reference/002.jpg")
    whole, one = open_benchmark(f"smvs:{tmp_path}"), open_benchmark(f"smvs:{tmp_path / 'covers'}")
    assert (len(whole.images), len(whole.queries), len(one.images)) == (4, 4, 2)
    assert one.queries[1].image == "Query/002.jpg"
    assert one.images[one.judgements[1]["ok"][0]] == "Reference/002.jpg"
    assert find_images(whole, tmp_path).missing == ()
    assert one.score(np.array([[0, 1], [0, 1]]))["plain"].mp_at.tolist() == [0.5]
    (tmp_path / "covers" / "Reference" / "002.jpg").unlink()
    with pytest.raises(UsageError, match="answers in Reference: 1 names are not in the image list"):
        open_benchmark(f"smvs:{tmp_path / 'covers'}")
    with pytest.raises(UsageError, match="no photos in folders Query and Reference"):
        open_benchmark(f"smvs:{photos(tmp_path / 'x', 'a.jpg')}")
