"""Files of local descriptors, as HOW and asmk exchange them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook

NAMES = [f"1{group:03d}0{photo}.jpg" for group in range(6) for photo in range(2)]


@pytest.fixture
def how(tmp_path: Path) -> dict[str, np.ndarray]:
    """30 descriptors of each of 12 images; those of one group are near each other."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(6, 1, 30, 32)) + 0.3 * rng.normal(size=(6, 2, 30, 32))
    vecs = groups.reshape(-1, 32).astype(np.float32)
    vecs /= np.linalg.norm(vecs, axis=1, keepdims=True)
    return {"vecs": vecs, "imids": np.repeat(np.arange(12), 30)}


def run(folder: Path, content: dict[str, np.ndarray], **settings: object) -> Run:
    (folder / "how.pkl").write_bytes(pickle.dumps(content))
    return Run("holidays", str(folder / "names.txt"), "asmk", settings, features=str(folder / "how.pkl"))


def test_the_ranking_is_that_of_the_index(how: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = evaluate(run(tmp_path, how, words=20)).final
    index = Asmk(Codebook.fit(how["vecs"], 20))
    index.add(how["imids"], how["vecs"])
    own = np.isin(how["imids"], np.arange(0, 12, 2))
    expected = index.search(how["imids"][own] // 2, how["vecs"][own])
    np.testing.assert_array_equal(found.ranking.ids, expected.ids)
    assert found.scores["plain"].map == 1


def test_queries_and_codebook_of_their_own(how: dict[str, np.ndarray], tmp_path: Path) -> None:
    shuffled = np.random.default_rng(1).permutation(180)
    own = np.isin(how["imids"], np.arange(0, 12, 2))
    asked = {"qvecs": how["vecs"][own][shuffled], "qimids": (how["imids"][own] // 2)[shuffled]}
    np.save(tmp_path / "train.npy", how["vecs"])
    train = {"words": 20, "codebook": str(tmp_path / "train.npy")}
    alone, given = (evaluate(run(tmp_path, content, **train)).final for content in (how, {**how, **asked}))
    np.testing.assert_array_equal(alone.ranking.ids, given.ranking.ids)


def test_files_that_do_not_fit(how: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it needs imids"):
        evaluate(run(tmp_path, {"vecs": how["vecs"]}))
    with pytest.raises(UsageError, match="imids run from 1 to 12, and there are 12"):
        evaluate(run(tmp_path, {**how, "imids": how["imids"] + 1}))
    with pytest.raises(UsageError, match="does not say which image"):
        evaluate(run(tmp_path, {**how, "qvecs": how["vecs"]}))
