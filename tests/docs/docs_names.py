"""What the programs on the pages take for granted: names with values of the kind that the page says, small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

N, DIM = 1100, 24  # more photos than the papers' 1000 candidates
Names = dict[str, Any]

# Blocks that are compiled but not run, by page and first line, and why.
COMPILED: Mapping[tuple[str, str], str] = {
    ("README.md", "search = AsmkSearch(index)"): "shows how a pipeline reads; src/resight/recipes/local.py holds it",
    ("docs/classic.md", "AsmkSearch(index)"): "shows how a pipeline reads; src/resight/recipes/local.py holds it",
    ("docs/hybrid.md", "search = local"): "shows how a pipeline reads; src/resight/recipes/local.py holds it",
    ("docs/benchmarks.md", "from resight.evaluation.benchmark"): "needs descriptors of a million distractors",
    (
        "docs/exchange.md",
        "import pycolmap",
    ): "a model wants photos of one scene; tests/unit/exchange opens the database",
    ("docs/exchange.md", "import fiftyone as fo"): "fiftyone brings a database server of its own",
    ("docs/frozen.md", "from transformers import"): "fetches a network from another host",
    ("docs/learned-similarity.md", "from resight.matching.similarity"): "trains for minutes: tests/unit/training does",
    ("docs/knn-graph.md", "from resight.graph.searched"): "is for 200 000 photos and more: tests/unit/graph runs it",
    ("docs/search-index.md", "from resight.index.refined"): "is for a million photos: tests/unit/index runs it",
    ("docs/search-index.md", "index.effort"): "shows what an index of 163 001 regions says",
    ("docs/serve.md", "import resight"): "asks a service: tests/unit/serving does",
}


def reason(page: str, text: str) -> str | None:
    """Why a block of `page` is not run; None for one that is."""
    return next((why for (where, start), why in COMPILED.items() if where == page and text.startswith(start)), None)


def names_for(page: str) -> Names:
    """The names that the programs of `page` find."""
    return GIVEN.get(page, dict)()


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _vectors(n: int = N, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """Descriptors around as many centres as there are things of ten photos."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(n // 10, 1), dim))
    return _unit(centres[np.arange(n) % len(centres)] + 0.15 * rng.normal(size=(n, dim)))


def _searched() -> Names:
    """A collection's vectors and two queries, the first of them photo 417 from nearby."""
    vectors = _vectors()
    query_vectors = _unit(vectors[[417, 30]] + np.float32(0.01))
    return {"vectors": vectors, "query_vectors": query_vectors, "queries": query_vectors}


def _pixels(path: str = "query.jpg") -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _paths() -> list[str]:
    return [str(path) for path in sorted(Path("photos").rglob("*.jpg"))]


def _adaptation() -> Names:
    return {"vectors": _vectors(60), "groups": np.arange(60) % 6}


def _asmk() -> Names:
    rng = np.random.default_rng(0)
    descriptors = _unit(rng.normal(size=(4000, 16)))
    rows = np.repeat(np.arange(40), 100)
    asked = {"query_rows": rows[:200], "query_descriptors": descriptors[:200]}
    return {"descriptors": descriptors, "rows": rows, **asked, "rows_of_photo_5": np.full(100, 5),
            "new_descriptors": descriptors[500:600]}  # fmt: skip


def _benchmarks() -> Names:
    from resight.evaluation.ground_truth import open_benchmark

    return {"open_benchmark": open_benchmark, "ids": np.array([[1, 2, 3, 0]]),
            "benchmark": open_benchmark("roxford5k:data/gnd_roxford5k.pkl")}  # fmt: skip


def _deep_spatial() -> Names:
    from resight.index.exact import ExactIndex
    from resight.ranking.vector_database import VectorDatabase

    others = [_pixels(path) for path in _paths()[:6]]
    vectors = _vectors(6)
    index = ExactIndex(DIM)
    index.add(np.arange(6), vectors)
    return {"pixels": _pixels(), "others": others, "vectors": vectors[:1], "index": index,
            "database": VectorDatabase.over(vectors)}  # fmt: skip


def _diffused() -> Names:
    from resight.graph.diffusion import affinity, normalise, seeds
    from resight.graph.knn_graph import build_knn_graph, neighbours

    found = _searched()
    normalised = normalise(affinity(build_knn_graph(found["vectors"], 20), gamma=3.0))
    y = seeds(neighbours(found["query_vectors"], found["vectors"], 10), N)
    return {**found, "normalised": normalised, "y": y}


def _evaluation() -> Names:
    from resight.evaluation.ground_truth import open_benchmark
    from resight.index.exact import ExactIndex
    from resight.ranking.expansion_stages import QueryExpansion
    from resight.ranking.search import GlobalSearch
    from resight.ranking.vector_database import VectorDatabase
    from resight.types import Queries

    benchmark = open_benchmark("holidays:data/holidays/images")
    vectors = np.load("data/descriptors/holidays_resnet101v2_c4_gem.npy")
    index = ExactIndex(vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors)
    queries = vectors[[query.row for query in benchmark.queries]]
    return {"benchmark": benchmark, "Queries": Queries, "queries": queries, "first": GlobalSearch(index),
            "mine": QueryExpansion(VectorDatabase.over(vectors), n=2)}  # fmt: skip


def _expansion() -> Names:
    return {**_searched(), "inliers": np.full((2, N), 25)}


def _labelled() -> Names:
    return {**_searched(), "training_vectors": _vectors(200, seed=0), "training_labels": np.arange(200) % 110}


def _described() -> Names:
    from resight.features.global_descriptor import GlobalDescriptor
    from resight.features.networks.open import open_backbone
    from resight.features.pooling import mac

    other = GlobalDescriptor(open_backbone("resnet50_c4.onnx"), mac, "mac")
    return {"paths": _paths(), "other": other, "query": _pixels(), "photo": _pixels(_paths()[0])}


def _graphs() -> Names:
    found = _searched()
    every = np.vstack([found["vectors"], _vectors(20, seed=9)])
    return {**found, "all_vectors": every, "kept_vectors": np.delete(every, [3, 17], axis=0)}


def _similarity() -> Names:
    from resight.index.exact import ExactIndex
    from resight.matching.similarity import new_similarity
    from resight.ranking.search import GlobalSearch

    X = _vectors(120, 512)
    index = ExactIndex(512)
    index.add(np.arange(120), X)
    return {"groups": np.arange(120) % 12, "X": X, "queries": X[:3], "rows": np.arange(120), "index": index,
            "search": GlobalSearch(index), "similarity": new_similarity(512)}  # fmt: skip


def _matched() -> Names:
    from resight.features.local.encoders import open_encoder

    encode = open_encoder("xfeat", weights="xfeat.onnx")
    return {"a": encode(_pixels()), "b": encode(_pixels(_paths()[0]))}


def _metrics() -> Names:
    from types import SimpleNamespace

    rng = np.random.default_rng(0)
    return {f"scores_{one}": SimpleNamespace(ap=rng.uniform(size=30)) for one in "ab"}


def _pooling() -> Names:
    rng = np.random.default_rng(0)
    return {"maps": rng.random((2, 8, 7, 9), np.float32), "per_scale": rng.random((3, 2, 8), np.float32)}


def _report() -> Names:
    xy = np.random.default_rng(0).uniform(20, 200, (30, 2))
    return {"xy_a": xy, "xy_b": xy + 5, "inliers": np.arange(30) % 2 == 0, "transform": np.eye(3)}


def _indexed() -> Names:
    from resight.index.approximate import ApproximateIndex

    vectors = _vectors()
    return {"vectors": vectors, "rows": np.arange(N), "queries": vectors[:5], "rows_of_2023": np.arange(0, N, 3),
            "new_vectors": vectors[9:10], "approximate": ApproximateIndex(DIM)}  # fmt: skip


def _features(path: str) -> Any:
    from resight.features.local.encoders import open_encoder

    return open_encoder("rootsift", count=300)(_pixels(path))


def _verified() -> Names:
    from resight.matching.geometry import verify

    features = [_features(path) for path in _paths()[:7]]
    return {"a": features[0], "b": features[1], "query": features[0], "candidates": features[1:], "verify": verify,
            "features": features, "vectors": _vectors(7)}  # fmt: skip


GIVEN: Mapping[str, Callable[[], Names]] = {
    "docs/adaptation.md": _adaptation,
    "docs/asmk.md": _asmk,
    "docs/benchmarks.md": _benchmarks,
    "docs/deep-spatial.md": _deep_spatial,
    "docs/diffusion.md": _searched,
    "docs/evaluation.md": _evaluation,
    "docs/exchange.md": lambda: {"paths": _paths(), "others": ["query.jpg", "new.jpg"]},
    "docs/expansion.md": _expansion,
    "docs/explore-exploit.md": _labelled,
    "docs/global-descriptors.md": _described,
    "docs/graph-methods.md": _searched,
    "docs/inspect.md": lambda: {"pixels": _pixels()},
    "docs/knn-graph.md": _graphs,
    "docs/learned-similarity.md": _similarity,
    "docs/manifold.md": _searched,
    "docs/matchers.md": _matched,
    "docs/metrics.md": _metrics,
    "docs/models.md": lambda: {"pixels": _pixels()},
    "docs/pooling.md": _pooling,
    "docs/reciprocal.md": _searched,
    "docs/report.md": _report,
    "docs/search-index.md": _indexed,
    "docs/separation.md": lambda: {"vectors": _vectors(150), "queries": _vectors(150)[:2]},
    "docs/spectral.md": _diffused,
    "docs/verification.md": _verified,
    "docs/verified-graph.md": _verified,
    "docs/whitening.md": lambda: {"vectors": _vectors(700, 300), "queries": _vectors(5, 300, 1)},
}
