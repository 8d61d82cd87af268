"""Every row of the tables is a recipe that exists, with options that it takes; where files lack, they are named."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from resight.evaluation.evaluate import check_run
from resight.evaluation.feature_files import Features, write_features
from resight.evaluation.published_file import read_tables
from resight.evaluation.reproduce import reproduce
from resight.matching.oasis import Oasis
from resight.matching.similarity import new_similarity

CELLS = [cell for table in read_tables() for cell in table.cells]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.table}, {cell.row}, {cell.column}")
def test_a_row_names_a_recipe_and_options_that_exist(cell):
    check_run(cell.run)


def test_what_is_missing_is_exactly_the_files(tmp_path: Path) -> None:
    for outcome in reproduce(read_tables(), tmp_path):
        cell = outcome.cell
        assert outcome.status == "MISSING"
        told = [what.partition(" (")[0] for what in outcome.missing]
        trained = {path: order.needs for order in cell.orders for path in order.outputs}
        needed = dict.fromkeys(one for path in cell.needs for one in trained.get(path, (path,)))
        assert told == [str(tmp_path / path) for path in needed], (cell.row, cell.column)
        assert {*cell.run.setting_files, *cell.run.codebooks.values()} <= set(cell.needs)
        own = {path for path in needed if not path.startswith(("holidays", "descriptors/holidays", "backbones"))}
        unexplained = {path for path in own if path not in cell.sources}
        assert not unexplained, f"table {cell.table} does not say where {unexplained} come from"


def unit(rng: np.random.Generator, things: np.ndarray, dim: int, noise: float = 0.5) -> np.ndarray:
    """Descriptors (N, dim) of photos of `things` (N,), alike for one thing."""
    centres = np.random.default_rng(dim).normal(size=(20, dim))
    x = (centres[things] + noise * rng.normal(size=(len(things), dim))).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(table: str, data: Path, cache: Path) -> dict[tuple[str, str], float]:
    """Scores of the rows of a table that run on what lies in the folder; none may fail to run but for files."""
    (chosen,) = (one for one in read_tables() if one.name == table)
    found = {}
    for outcome in reproduce([chosen], data, cache=cache):
        absent = [path for path in outcome.cell.needs if not (data / path).exists()]
        assert (outcome.status == "MISSING") == bool(absent), outcome.missing
        if outcome.measured is not None:
            found[outcome.cell.row, outcome.cell.column] = outcome.measured
    return found


def test_table_c_runs_on_files_of_the_challenge(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos, queries, training = (np.repeat(np.arange(20), n) for n in (6, 1, 5))
    names, asked = ([f"{kind}{row:015x}" for row in range(n)] for kind, n in (("i", 120), ("q", 20)))
    for folder in ("gldv2/images", "descriptors", "ransac"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "gldv2/index.csv").write_text("id\n" + "\n".join(names))
    lines = [
        f"{name},{' '.join(np.array(names)[photos == thing])},{'Public' if thing % 2 else 'Private'}"
        for thing, name in enumerate(asked)
    ]
    (tmp_path / "gldv2/retrieval_solution_v2.1.csv").write_text("id,images,Usage\n" + "\n".join(lines))
    (tmp_path / "gldv2/train.csv").write_text(
        "id,url,landmark_id\n" + "\n".join(f"t{row},http,{900 + thing}" for row, thing in enumerate(training))
    )
    gem, other = ((unit(rng, photos, d, 1.5), unit(rng, queries, d, 1.5)) for d in (12, 8))
    learned = np.hstack([unit(rng, training, 12), unit(rng, training, 8)]) * np.float32(0.5**0.5)
    with h5py.File(tmp_path / "descriptors/gldv2-train_blend.h5", "w") as file:
        file["X"] = learned
    for usage, own in (("public", queries % 2 == 1), ("private", queries % 2 == 0)):
        for kind, (x, q) in (("gem", gem), ("dir", other)):
            write_features(tmp_path / f"descriptors/gldv2-{usage}_{kind}.h5", Features(x, q[own]))
        blend = np.hstack([gem[0], other[0]])
        for what, points, things in (
            ("index", blend, photos),
            ("query", np.hstack([gem[1], other[1]])[own], queries[own]),
        ):
            near = np.argsort(-points @ blend.T, axis=1)[:, :10]
            proven = [[row for row in each if photos[row] == thing] for each, thing in zip(near, things, strict=True)]
            lists = [each + [-1] * (10 - len(each)) for each in proven]
            np.save(tmp_path / f"ransac/gldv2-{usage}_{what}.npy", np.array(lists))
    found = run("C", tmp_path, tmp_path / "cache")
    assert len(found) == 8
    for usage in ("public", "private"):
        plain, expanded, traversed, labelled = (score for (_, column), score in found.items() if column == usage)
        assert plain < expanded, "what geometry proves helps"
        assert min(traversed, labelled) > plain, "and so do chains and labels"


def test_table_d_runs_on_weights_of_every_stage(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    things = np.repeat(np.arange(10), 4)
    for folder in ("landmarks5k", "descriptors", "weights"):
        (tmp_path / folder).mkdir()
    (tmp_path / "landmarks5k/labels.txt").write_text(
        "".join(f"{row}.jpg {thing}\n" for row, thing in enumerate(things))
    )
    write_features(tmp_path / "descriptors/landmarks_vgg16_rmac.mat", Features(unit(rng, things, 16, 0.3)))
    for number, name in enumerate(("deep_cosine", "deep_sim", "deep_sim_h")):
        new_similarity(16, (8,), seed=number).save(tmp_path / f"weights/{name}.safetensors")
    Oasis.identity(16).save(tmp_path / "weights/oasis.safetensors")
    found = run("D", tmp_path, tmp_path / "cache")
    assert {row for row, _ in found} == {"cosine", "OASIS", "DeepCosine", "DeepSim", "DeepSimH"}
    assert found["OASIS", "Landmarks5k"] == found["cosine", "Landmarks5k"] > 80
    assert len({round(score, 6) for score in found.values()}) > 2


def test_table_a_runs_on_descriptors_and_verified_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    photos, queries = np.repeat(np.arange(20), 30), np.arange(20)
    for folder in ("ground_truth", "descriptors", "ransac"):
        (tmp_path / folder).mkdir()
    rows = [np.flatnonzero(photos == thing) for thing in queries]
    gnd = [{"easy": own[:10], "hard": own[10:], "junk": np.empty(0, int), "bbx": [0, 0, 9, 9]} for own in rows]
    names = {"imlist": [f"i{n}" for n in range(600)], "qimlist": [f"q{n}" for n in range(20)]}
    with open(tmp_path / "ground_truth/gnd_roxford5k.pkl", "wb") as file:
        pickle.dump({**names, "gnd": gnd}, file)
    x, q = unit(rng, photos, 32, 1.2), unit(rng, queries, 32, 1.2)
    write_features(tmp_path / "descriptors/roxford5k_gem_resnet101.mat", Features(x, q))
    for what, points, things in (("index", x, photos), ("query", q, queries)):
        near = np.argsort(-points @ x.T, axis=1)
        proven = [[row for row in each if photos[row] == thing][:25] for each, thing in zip(near, things, strict=True)]
        np.save(tmp_path / f"ransac/roxford5k_{what}.npy", np.array(proven))
    found = run("A", tmp_path, tmp_path / "cache")
    told = {row for row, _ in found}
    assert {"GeM", "GeM+aQE", "GeM+DFS", "GeM+GSS", "GeM+GSS_V", "GeM+GSS_V-SV"} <= told
    assert found["GeM+GSS_V-SV", "ROxf M"] > found["GeM+GSS", "ROxf M"] > found["GeM", "ROxf M"]
