"""Published ground truth, real photographs and real descriptors; skipped where they are not at hand."""

from pathlib import Path

import numpy as np
import pytest

from resight.evaluation.benchmark import Benchmark, with_distractors
from resight.evaluation.feature_files import read_features
from resight.evaluation.ground_truth import KNOWN, open_benchmark
from resight.evaluation.image_files import find_images
from resight.evaluation.streaming import rank_blocks, stream_vectors

DATA = Path(__file__).parents[2] / "../shared/data"


def need(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    return path


@pytest.fixture(scope="module")
def holidays() -> Benchmark:
    return open_benchmark(f"holidays:{need('holidays', 'images')}")


@pytest.mark.parametrize(("name", "counts"), [("roxford5k", (3029, 2497, 1356)), ("rparis6k", (6874, 10350, 7153))])
def test_revisited_annotation(name: str, counts: tuple[int, ...]) -> None:
    benchmark = open_benchmark(f"{name}:{need('ground_truth')}")
    assert (len(benchmark.images), len(benchmark.queries)) == (KNOWN[name].images, KNOWN[name].queries)
    assert (len(benchmark.images), len(benchmark.queries)) == ({"roxford5k": 4993, "rparis6k": 6322}[name], 70)
    got = tuple(sum(len(judged[label]) for judged in benchmark.judgements) for label in ("easy", "hard", "junk"))
    assert got == counts
    assert all(query.box is not None for query in benchmark.queries)


def test_a_perfect_ranking_of_revisited_oxford_is_perfect() -> None:
    benchmark = open_benchmark(f"roxford5k:{need('ground_truth')}")
    rows = np.arange(len(benchmark.images))
    ids = np.stack([np.argsort(~np.isin(rows, [*j["easy"], *j["hard"]]), kind="stable") for j in benchmark.judgements])
    scores = benchmark.score(ids)
    assert scores["medium"].map == pytest.approx(1)
    assert scores["medium"].mp_at == pytest.approx([1, 1, 1])
    assert {level: score.empty for level, score in scores.items()} == {"easy": 2, "medium": 0, "hard": 0}


def test_holidays_by_name(holidays: Benchmark) -> None:
    groups = {int(Path(name).stem) // 100 for name in holidays.images}
    assert (len(holidays.images), len(groups)) == (520, 198)
    assert sum(len(judged["ok"]) > 0 for judged in holidays.judgements) == 194
    files = find_images(holidays, need("holidays", "images"))
    assert files.missing == ()


def test_holidays_descriptors_reach_their_published_score(holidays: Benchmark) -> None:
    path = need("descriptors", "holidays_resnet101v2_c4_gem.npy")
    names = need("descriptors", "holidays_ids.txt").read_text().split()
    assert [Path(name).stem for name in holidays.images] == names
    vectors = read_features(path).vectors
    queries = vectors[[query.row for query in holidays.queries]]
    ranking = rank_blocks(queries, stream_vectors(path, vectors.shape[1], block=100))
    scores = holidays.score(ranking.ids)["plain"]
    assert scores.map == pytest.approx(0.844, abs=5e-4)
    # far distractors change nothing, near ones do
    more = with_distractors(holidays, [f"distractor {n}" for n in range(520)])
    far = rank_blocks(queries, (block for part in (vectors, -vectors) for block in (part[:300], part[300:])))
    assert more.score(far.ids)["plain"].map == scores.map
    near = rank_blocks(queries, (vectors, vectors[::-1] * 0.99))
    assert more.score(near.ids)["plain"].map < scores.map


def test_landmark_folders_are_classes() -> None:
    benchmark = open_benchmark(f"folders:{need('landmarks')}")
    sizes = {name: sum(image.startswith(f"{name}/") for image in benchmark.images) for name in ("et", "kermit")}
    assert sizes == {"et": 9, "kermit": 11}
    assert {len(judged["ok"]) for judged in benchmark.judgements} == {9 - 1, 10 - 1, 11 - 1, 29 - 1}


@pytest.mark.parametrize(
    ("name", "folder", "images", "judged"),
    [
        ("roxford845", "oxford845", 775, {"easy": 3024, "hard": 2212, "junk": 790}),
        ("oxford845", "oxford845", 845, {"ok": 2840, "junk": 1495}),
        ("smvs", "smvs", 191, {"ok": 191, "junk": 0}),
        ("ukbench", "ukbench140", 140, {"ok": 560, "junk": 0}),
    ],
)
def test_parts_of_sets_with_photos(name: str, folder: str, images: int, judged: dict[str, int]) -> None:
    benchmark = open_benchmark(f"{name}:{need(folder)}")
    assert len(benchmark.images) == images
    assert {label: sum(len(j[label]) for j in benchmark.judgements) for label in judged} == judged
    assert find_images(benchmark, need(folder)).missing == ()
