from pathlib import Path

import numpy as np
import pytest
import scipy.io

from resight.errors import ArrayError, UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol
from resight.evaluation.feature_database import Database
from resight.evaluation.feature_recipes import FEATURE_RECIPES
from resight.evaluation.vectors import FeatureSearch, read_for_benchmark
from resight.matching.oasis import Oasis
from resight.types import Queries, Ranking

OUTSIDE = Protocol(crop="whole", ap="rectangle", junk="none", own_photo="absent")
INSIDE = Protocol(crop="whole", ap="rectangle", junk="own", own_photo="junk")


# For 40 photos that have nothing to do with each other; the defaults are for collections.
NEED_FILES = ("oasis", "deep-similarity", "semi-supervised", "verified-expansion", "landmark2019", "asmk")
SMALL = {
    "average-expansion": {"n": 1},
    "alpha-expansion": {"n": 1},
    "alpha-augmentation": {"n": 1, "query_n": 1},
    "explore-exploit": {"k": 5},
    "separation": {"epochs": 2},
    "super-global": {"k": 2},
    **{name: {"k": 4, "seeds": 1, "alpha": 0.5} for name in ("diffusion", "spectral-ranking", "hybrid-diffusion")},
    "offline-diffusion": {"k": 4, "candidates": 10, "seeds": 1},
}


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def bench(inside: bool) -> Benchmark:
    names = tuple(f"{i}.jpg" for i in range(12))
    queries = tuple(BenchmarkQuery(f"q{i}", names[i], row=i if inside else None) for i in range(3))
    judgements = tuple({"ok": np.array([5]), "junk": np.array([i] if inside else [], np.int64)} for i in range(3))
    return Benchmark("toy", names, queries, judgements, INSIDE if inside else OUTSIDE, "", "", 12)


# The learned ones need a file of weights, the semi-supervised one training photos, asmk local descriptors.
@pytest.mark.parametrize("recipe", [name for name in FEATURE_RECIPES if name not in NEED_FILES])
def test_every_recipe_finds_a_copy_of_the_query_first(recipe: str) -> None:
    x = unit(40, 16)
    settings = SMALL.get(recipe, {})
    ranking = FeatureSearch(Database(x), recipe, settings)(Queries(vectors=x[7:9]))
    assert ranking.ids[:, 0].tolist() == [7, 8]


def test_a_learned_similarity_decides_the_order(tmp_path: Path) -> None:
    x = unit(40, 16)
    Oasis(-np.eye(16)).save(tmp_path / "w.safetensors")
    search = FeatureSearch(Database(x), "oasis", {"weights": str(tmp_path / "w.safetensors")})
    assert search(Queries(vectors=x[7:9])).ids[:, -1].tolist() == [7, 8]
    with pytest.raises(UsageError, match="--weights"):
        FeatureSearch(Database(x), "oasis")(Queries(vectors=x[:1]))
    with pytest.raises(UsageError, match="compares 16 dimensions, the descriptors have 4"):
        FeatureSearch(Database(unit(9, 4)), "oasis", search.settings)(Queries(vectors=unit(1, 4)))
    with pytest.raises(UsageError, match="weights=3 is not text"):
        FeatureSearch(Database(x), "oasis", {"weights": 3})


def test_search_with_distractors_streams_them(tmp_path: Path) -> None:
    x, far = unit(12, 8), unit(30, 8, seed=1)
    np.save(tmp_path / "far.npy", far)
    np.save(tmp_path / "x.npy", x)
    benchmark, queries, database = read_for_benchmark(
        bench(True), str(tmp_path / "x.npy"), None, str(tmp_path / "far.npy")
    )
    assert (len(benchmark.images), benchmark.annotated) == (42, 12)
    assert np.array_equal(queries, x[:3])
    ids = FeatureSearch(database, "search")(Queries(vectors=queries)).ids
    assert np.array_equal(ids, np.argsort(-(queries @ np.concatenate([x, far]).T), axis=1))
    assert len(database.all()) == 42


def test_a_blend_stands_side_by_side(tmp_path: Path) -> None:
    x, y, q, r = unit(12, 8), 3 * unit(12, 5, seed=1), unit(3, 8, seed=2), unit(3, 5, seed=3)
    np.savez(tmp_path / "gem.npz", X=x, Q=q)
    scipy.io.savemat(tmp_path / "dir.mat", {"X": y.T, "Q": r.T})
    gem, dir_ = str(tmp_path / "gem.npz"), str(tmp_path / "dir.mat")
    _, queries, database = read_for_benchmark(bench(False), gem, None, None, dir_)
    np.testing.assert_allclose(queries @ database.vectors.T, (q @ x.T + r @ (y / 3).T) / 2, atol=1e-6)
    with pytest.raises(UsageError, match="write a file of the blend"):
        read_for_benchmark(bench(False), gem, None, gem, dir_)
    np.savez(tmp_path / "short.npz", X=y[:7], Q=r)
    with pytest.raises(UsageError, match="does not hold 12 descriptors"):
        read_for_benchmark(bench(False), gem, None, None, str(tmp_path / "short.npz"))


def test_rows_follow_imids(tmp_path: Path) -> None:
    x, q = unit(12, 8), unit(3, 8, seed=2)
    order, asked = np.random.default_rng(0).permutation(12), np.array([2, 0, 1])
    np.savez(tmp_path / "f.npz", X=x[order], Q=q[asked], imids=order, qimids=asked)
    _, queries, database = read_for_benchmark(bench(False), str(tmp_path / "f.npz"), None, None)
    assert np.array_equal(database.vectors, x)
    assert np.array_equal(queries, q)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def read(benchmark: Benchmark, **arrays: np.ndarray) -> None:
        np.savez(tmp_path / "f.npz", **arrays)
        read_for_benchmark(benchmark, str(tmp_path / "f.npz"), None, None)

    x = unit(12, 8)
    with pytest.raises(UsageError, match="does not hold 12 descriptors"):
        read(bench(True), X=unit(11, 8))
    with pytest.raises(UsageError, match="--query-features"):
        read(bench(False), X=x)
    with pytest.raises(UsageError, match="5 query descriptors for 3 queries"):
        read(bench(False), X=x, Q=unit(5, 8))
    with pytest.raises(UsageError, match="does not hold one descriptor for each of the 12"):
        read(bench(True), X=x, imids=np.zeros(12, np.int64))
    with pytest.raises(UsageError, match="qimids"):
        read(bench(False), X=x, Q=unit(3, 8), qimids=np.array([0, 0, 1]))
    x[3, 2] = np.nan
    with pytest.raises(ArrayError, match="row 3 of the database descriptors holds NaN or infinity"):
        read(bench(True), X=x)


def test_unknown_recipes_and_settings_are_refused() -> None:
    database = Database(unit(4, 4))
    with pytest.raises(UsageError, match="recipe 'magic' is unknown"):
        FeatureSearch(database, "magic")
    with pytest.raises(UsageError, match="has no option 'beta': it has n, alpha"):
        FeatureSearch(database, "alpha-expansion", {"beta": 1})
    with pytest.raises(UsageError, match="n='many' is not a whole number"):
        FeatureSearch(database, "alpha-expansion", {"n": "many"})
    with pytest.raises(UsageError, match="n=True"):
        FeatureSearch(database, "alpha-expansion", {"n": True})
    with pytest.raises(UsageError, match="put it first"):
        FeatureSearch(database, "search")(Queries(rows=np.array([0])))
    with pytest.raises(UsageError, match="put it first"):
        FeatureSearch(database, "search")(Queries(vectors=unit(1, 4)), Ranking(np.zeros((1, 1), int), np.zeros((1, 1))))
