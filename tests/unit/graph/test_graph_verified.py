"""Verified graphs: each pair once, resumed after a kill, stored; what files of other work and damage do."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from resight.errors import ArrayError, CollectionError, UsageError
from resight.graph import verified
from resight.graph.knn_graph import build_knn_graph
from resight.graph.stored import StoredGraph, load_graph, save_graph
from resight.graph.verified import build_verified_graph
from resight.types import KnnGraph

COUNT = 100
VECTORS = np.random.default_rng(0).normal(size=(COUNT, 8)).astype(np.float32)
CANDIDATES = build_knn_graph(VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True), 6)


def counts(row, rows):
    """Inliers that depend on the pair, not on its order."""
    return [0 if (row + int(other)) % 3 == 0 else 5 + (row * int(other)) % 40 for other in rows]


class Recorder:
    def __init__(self, stop_after=None):
        self.pairs, self.stop_after = [], stop_after

    def __call__(self, row, rows):
        if self.stop_after is not None and len(self.pairs) >= self.stop_after:
            raise KeyboardInterrupt
        self.pairs += [(row, int(other)) for other in rows]
        return counts(row, rows)


def test_only_proven_edges_with_their_inliers_most_first():
    graph = build_verified_graph(CANDIDATES, counts, least=10)
    for row in range(COUNT):
        near = CANDIDATES.ids[row].tolist()
        expected = [(-n, near.index(j), j) for j, n in zip(near, counts(row, near), strict=True) if n >= 10]
        kept = graph.ids[row] >= 0
        assert graph.ids[row][kept].tolist() == [j for _, _, j in sorted(expected)]
        assert graph.weights[row][kept].tolist() == [-n for n, _, _ in sorted(expected)]


def test_each_pair_is_verified_once():
    recorder = Recorder()
    build_verified_graph(CANDIDATES, recorder, jobs=3)
    pairs = [tuple(sorted(pair)) for pair in recorder.pairs]
    rows = np.repeat(np.arange(COUNT), CANDIDATES.k)
    listed = {tuple(sorted(pair)) for pair in zip(rows.tolist(), CANDIDATES.ids.ravel().tolist(), strict=True)}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == listed


def test_a_stopped_run_goes_on(tmp_path):
    whole, steps = build_verified_graph(CANDIDATES, counts), []
    stopped = Recorder(stop_after=250)
    with pytest.raises(KeyboardInterrupt):
        build_verified_graph(CANDIDATES, stopped, path=tmp_path / "blocks", jobs=1)
    again = Recorder()
    graph = build_verified_graph(
        CANDIDATES, again, path=tmp_path / "blocks", progress=lambda *step: steps.append(step[1:]), jobs=1
    )
    assert steps[0][0] >= 1
    assert min(row for row, _ in again.pairs) >= verified.BLOCK * steps[0][0]
    assert steps[-1] == (4, 4)
    np.testing.assert_array_equal(graph.ids, whole.ids)
    np.testing.assert_array_equal(graph.weights, whole.weights)
    finished = Recorder()
    build_verified_graph(CANDIDATES, finished, path=tmp_path / "blocks")
    assert finished.pairs == []


def test_a_killed_run_goes_on(tmp_path):
    program = textwrap.dedent(f"""
        import os, signal, sys
        import numpy as np
        sys.path[:0] = {sys.path!r}
        from test_graph_verified import CANDIDATES, counts
        from resight.graph.verified import build_verified_graph
        seen = 0
        def verify(row, rows):
            global seen
            seen += 1
            if seen > 70:
                os.kill(os.getpid(), signal.SIGKILL)
            return counts(row, rows)
        build_verified_graph(CANDIDATES, verify, path={str(tmp_path / "blocks")!r}, jobs=1)
    """)
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == -9
    again = Recorder()
    graph = build_verified_graph(CANDIDATES, again, path=tmp_path / "blocks", jobs=2)
    assert min(row for row, _ in again.pairs) >= verified.BLOCK
    np.testing.assert_array_equal(graph.ids, build_verified_graph(CANDIDATES, counts).ids)


@pytest.mark.parametrize("damage", ["cut", "flip", "tail"])
def test_a_damaged_end_is_done_again(tmp_path, damage):
    path = tmp_path / "blocks"
    whole = build_verified_graph(CANDIDATES, counts, path=path, jobs=1)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-7:]
    elif damage == "flip":
        content[-3] ^= 255
    else:
        content += b"\xff" * 30
    path.write_bytes(content)
    again = Recorder()
    graph = build_verified_graph(CANDIDATES, again, path=path)
    assert {row // verified.BLOCK for row, _ in again.pairs} == (set() if damage == "tail" else {3})
    np.testing.assert_array_equal(graph.weights, whole.weights)


def test_blocks_of_other_work_are_not_used(tmp_path):
    path = tmp_path / "blocks"
    build_verified_graph(CANDIDATES, counts, path=path, key="affine")
    for graph, key in ((CANDIDATES, "homography"), (KnnGraph(CANDIDATES.ids[:, :5], CANDIDATES.weights[:, :5]), "")):
        recorder = Recorder()
        build_verified_graph(graph, recorder, path=path, key=key)
        assert len(recorder.pairs) > 200
    path.write_bytes(b"something else")
    recorder = Recorder()
    build_verified_graph(CANDIDATES, recorder, path=path)
    assert len(recorder.pairs) > 200


def test_an_unwritable_file_is_named(tmp_path):
    with pytest.raises(CollectionError, match="cannot write"):
        build_verified_graph(CANDIDATES, counts, path=tmp_path / "no" / "such" / "folder")


def test_empty_lists_and_empty_graphs():
    graph = KnnGraph([[1, -1], [-1, -1]], [[0.5, -np.inf], [-np.inf, -np.inf]])
    assert build_verified_graph(graph, lambda *_: [9]).ids.tolist() == [[1, -1], [-1, -1]]
    empty = KnnGraph(np.empty((0, 3), np.int32), np.empty((0, 3)))
    assert len(build_verified_graph(empty, counts)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_verified_graph(CANDIDATES, counts, least=0), "least=0"),
        (lambda: build_verified_graph(CANDIDATES, counts, jobs=0), "jobs=0"),
        (lambda: build_verified_graph(CANDIDATES, lambda *_: [1]), "inlier counts has shape"),
        (lambda: build_verified_graph(CANDIDATES, lambda _, rows: [0.5] * len(rows)), "integers"),
        (lambda: build_verified_graph(CANDIDATES, lambda _, rows: [-1] * len(rows)), "counts -1"),
        (lambda: build_verified_graph(KnnGraph([[7]], [[1.0]]), counts), "neighbour 7"),
        (lambda: StoredGraph(CANDIDATES, np.zeros(COUNT, np.int64), "similarity", ""), "rise"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises((UsageError, ArrayError), match=message):
        call()


def test_a_stored_graph_comes_back(tmp_path):
    rows = np.arange(COUNT) * 2
    save_graph(tmp_path / "graph", StoredGraph(CANDIDATES, rows, "inliers", "abc"))
    stored = load_graph(tmp_path / "graph")
    np.testing.assert_array_equal(stored.graph.ids, CANDIDATES.ids)
    np.testing.assert_array_equal(stored.graph.weights, CANDIDATES.weights)
    assert (stored.weights, stored.made_from, stored.rows.tolist()) == ("inliers", "abc", rows.tolist())


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "ids"])
def test_damaged_graphs_are_refused(tmp_path, damage):
    from resight.store.tensor_file import write_tensors

    path = tmp_path / "graph"
    save_graph(path, StoredGraph(CANDIDATES, np.arange(COUNT), "similarity", ""))
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "other":
        write_tensors(path, "resight codebook 1", {"ids": CANDIDATES.ids}, {})
    else:
        tensors = {"ids": CANDIDATES.ids + 50, "weights": CANDIDATES.weights, "rows": np.arange(COUNT)}
        write_tensors(path, "resight graph 1", tensors, {"weights": "", "made_from": ""})
    with pytest.raises(CollectionError, match="graph"):
        load_graph(path)
