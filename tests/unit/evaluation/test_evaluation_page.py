import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol
from resight.evaluation.experiment import Evaluation, Result, Run
from resight.evaluation.image_files import ImageFiles
from resight.evaluation.page import curve, evaluation_page
from resight.evaluation.significance import compare
from resight.evaluation.verdicts import JUNK, PAD, RIGHT, WRONG, judged
from resight.types import Box, Ranking

REVISITED = Protocol(
    crop="box", ap="trapezoid", junk="unclear", own_photo="absent", levels=("easy", "medium", "hard"), at=(1,)
)


def bench() -> Benchmark:
    names = tuple(f"<b>{i}.jpg" for i in range(6))
    truth = {"easy": np.array([0]), "hard": np.array([2]), "junk": np.array([4])}
    queries = (BenchmarkQuery("q<0>", "q0.jpg", Box(0, 0, 10, 10)), BenchmarkQuery("q1", "q1.jpg", Box(0, 0, 9, 9)))
    empty = {"easy": np.array([1]), "hard": np.array([], np.int64), "junk": np.array([], np.int64)}
    return Benchmark("toy", names, queries, (truth, empty), REVISITED, "", "", 6)


def evaluation(benchmark: Benchmark) -> Evaluation:
    ids = np.array([[4, 0, 1, 2, -1], [5, 1, 0, 2, 3]])
    ranking = Ranking(ids, np.where(ids < 0, -np.inf, -np.arange(5.0)))
    result = Result("search", benchmark.score(ids), {"search": 0.01}, ranking)
    names = tuple(query.name for query in benchmark.queries)
    run = Run("roxford5k", "p", "search")
    return Evaluation(run, 6, names, "s", str(benchmark.protocol), (result,), ("a note",), 1, 2**30, benchmark)


def test_judgements_and_curves() -> None:
    benchmark, ids = bench(), np.array([4, 0, 1, 2, -1])
    assert judged(benchmark, "medium", 0, ids).tolist() == [JUNK, RIGHT, WRONG, RIGHT, PAD]
    assert judged(benchmark, "hard", 0, ids).tolist() == [JUNK, JUNK, WRONG, RIGHT, PAD]
    levels, precision = curve(benchmark, "medium", evaluation(benchmark).final.ranking)
    assert levels[50] == 0.5
    assert precision[0, [0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    _, hard = curve(benchmark, "hard", evaluation(benchmark).final.ranking)
    assert np.isnan(hard[1]).all()


def test_the_page_shows_scores_queries_and_choices(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "0.jpg")
    paths: list[Path | None] = [tmp_path / "0.jpg"] * 2 + [None] * 4
    files = ImageFiles(tuple(paths), (tmp_path / "0.jpg", None), ("x",))
    benchmark = bench()
    found = evaluation(benchmark)
    earlier = {level: compare([0.1, 0.2], [0.1, 0.3], seed=0) for level in ("medium",)}
    html = evaluation_page(found, files, earlier)
    for expected in ("mAP medium", "Worst queries (medium)", "q&lt;0&gt;", "queries cropped to their box", "a note"):
        assert expected in html
    assert "1 queries have no positives (hard)" in html
    assert "results: junk, right, wrong, right" in html
    assert "right at rank 1, 3" in html
    assert "against the earlier result" in html
    assert found.run.command in html
    assert "<b>0.jpg" not in html
    words = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert "http" not in words.replace("http-equiv", "").replace('xmlns="http', "")
    assert "protocol: uncropped" not in html


def test_a_perfect_query_is_not_among_the_worst() -> None:
    """All that is right comes first: there is nothing to look at, and values are percent."""
    ids = np.array([[4, 0, 2, 1, -1], [1, 5, 0, 2, 3]])
    benchmark, found = bench(), evaluation(bench())
    ranking = Ranking(ids, np.where(ids < 0, -np.inf, -np.arange(5.0)))
    final = replace(found.final, scores=benchmark.score(ids), ranking=ranking)
    html = evaluation_page(replace(found, results=(final,)), None)
    assert "Best queries (medium)" in html
    assert "Worst queries" not in html
    assert "AP 100.0" in html or " 100.0, right at rank 1" in html


def test_uncropped_queries_are_marked() -> None:
    html = evaluation_page(evaluation(bench().uncropped()), None)
    assert '<p class="mark">protocol: uncropped</p>' in html


def test_a_result_from_a_file_cannot_be_drawn() -> None:
    found = evaluation(bench())
    with pytest.raises(UsageError, match="evaluate again"):
        evaluation_page(replace(found, results=(replace(found.final, ranking=None),)), None)
    with pytest.raises(UsageError, match="evaluate again"):
        evaluation_page(replace(found, benchmark=None), None)
