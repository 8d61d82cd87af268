"""Google Landmarks v2: csv files of the retrieval and recognition tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, BenchmarkQuery, names_found
from resight.evaluation.readers.columns import read_columns
from resight.types import Int64


def retrieval_reader(usage: str) -> Callable[[Path], Annotation]:
    """Reader of the retrieval task for `usage` "Public" or "Private" (Weyand et al., CVPR 2020).

    The folder, or one level below, holds `index.csv` (column id, or `index_image_to_landmark.csv`) and
    `retrieval_solution_v2.1.csv` (id, images separated by blanks, Usage). Rows of another usage, "Ignored" among them,
    are not queries. Image files are found by id. Raises `UsageError` for missing files and unknown ids.
    """

    def read(folder: Path) -> Annotation:
        index = _find(folder, "index.csv", "index_image_to_landmark.csv")
        images = tuple(read_columns(index, ["id"])["id"])
        rows = {name: row for row, name in enumerate(images)}
        solution = _find(folder, "retrieval_solution*.csv")
        queries = _solution(solution, "images", usage)
        positives = [names_found(f"{solution}, query {name}", images, rows) for name, images in queries]
        return _annotation(images, [name for name, _ in queries], positives)

    return read


def read_challenge(folder: Path) -> Annotation:
    """The challenge itself, whose answers are not told: every photo of `test.csv` (or `sample_submission.csv`) asks.

    The folder, or one level below, holds these and `index.csv`, all with a column id. No query has positives, so there
    is no score: it is for `resight.evaluation.submission`. Raises `UsageError` for missing files.
    """
    images = tuple(read_columns(_find(folder, "index.csv", "index_image_to_landmark.csv"), ["id"])["id"])
    queries = read_columns(_find(folder, "test.csv", "sample_submission.csv"), ["id"])["id"]
    return _annotation(images, queries, [np.empty(0, np.int64)] * len(queries))


def recognition_reader(usage: str) -> Callable[[Path], Annotation]:
    """Reader of the recognition task, made a retrieval task: positives are all images of a query's landmarks.

    The folder, or one level below, holds `train.csv` or `index_image_to_landmark.csv` (columns id, landmark_id) and
    `recognition_solution_v2.1.csv` (id, landmarks separated by blanks, Usage). Queries without a landmark have no
    positives. The score is mAP@100, not the micro-AP of the recognition challenge. Raises `UsageError` as above.
    """

    def read(folder: Path) -> Annotation:
        columns = read_columns(_find(folder, "train.csv", "index_image_to_landmark.csv"), ["id", "landmark_id"])
        members: defaultdict[str, list[int]] = defaultdict(list)
        for row, landmark in enumerate(columns["landmark_id"]):
            members[landmark].append(row)
        queries = _solution(_find(folder, "recognition_solution*.csv"), "landmarks", usage)
        positives = [
            np.array([row for landmark in dict.fromkeys(landmarks) for row in members.get(landmark, ())], np.int64)
            for _, landmarks in queries
        ]
        return _annotation(tuple(columns["id"]), [name for name, _ in queries], positives)

    return read


def _solution(path: Path, column: str, usage: str) -> list[tuple[str, list[str]]]:
    """(query id, its listed words) of the rows with that usage; the word None stands for nothing."""
    columns = read_columns(path, ["id", column, "Usage"])
    unknown = set(columns["Usage"]) - {"Public", "Private", "Ignored"}
    if unknown:
        raise UsageError(f"{path} has the usage {sorted(unknown)[0]!r}: Public, Private or Ignored are known")
    rows = zip(columns["id"], columns[column], columns["Usage"], strict=True)
    return [(name, [word for word in words.split() if word != "None"]) for name, words, used in rows if used == usage]


def _annotation(images: tuple[str, ...], queries: list[str], positives: list[Int64]) -> Annotation:
    nothing = np.empty(0, np.int64)
    return Annotation(
        images,
        tuple(BenchmarkQuery(name, name) for name in queries),
        tuple({"ok": rows, "junk": nothing} for rows in positives),
    )


def _find(folder: Path, *patterns: str) -> Path:
    for pattern in patterns:
        for below in (pattern, f"*/{pattern}"):
            for path in sorted(folder.glob(below)):
                return path
    raise UsageError(f"{folder} and the folders in it hold no {' or '.join(patterns)}")
