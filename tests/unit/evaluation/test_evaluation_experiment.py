import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol
from resight.evaluation.experiment import Run, System, Task, evaluate_systems, peak_memory, prefixes
from resight.evaluation.experiment_file import read_experiment
from resight.types import Queries, Ranking

PLAIN = Protocol(crop="whole", ap="rectangle", junk="none", own_photo="absent")


def bench(images: int = 6) -> Benchmark:
    judgements = tuple({"ok": np.array([0, 1]), "junk": np.array([], np.int64)} for _ in range(3))
    queries = tuple(BenchmarkQuery(f"q{i}", f"q{i}.jpg") for i in range(3))
    names = tuple(f"{i}.jpg" for i in range(images))
    return Benchmark("toy", names, queries, judgements, PLAIN, "none", "none", images)


def batches(*sizes: int) -> list[Queries]:
    return [Queries(vectors=np.ones((size, 2), np.float32)) for size in sizes]


class Fixed:
    """A first stage that gives every query one list and counts its calls."""

    def __init__(self, *ids: int) -> None:
        self.ids, self.calls = ids, 0

    def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
        self.calls += 1
        n = len(queries)
        return Ranking(np.tile(self.ids, (n, 1)), np.tile(-np.arange(len(self.ids), dtype=np.float32), (n, 1)))


def nothing(_: Queries, ranking: Ranking | None = None) -> Ranking:
    assert ranking is not None
    return ranking


def by_row(_: Queries, ranking: Ranking | None = None) -> Ranking:
    """Knows the answer: in this benchmark the lowest rows are right."""
    assert ranking is not None
    ids = np.sort(ranking.ids, axis=1)
    return Ranking(ids, -ids.astype(np.float32))


def test_common_first_stages_run_once_per_batch() -> None:
    first, other = Fixed(2, 0, 1), Fixed(0, 1)
    systems = [
        System("a", (first,)),
        System("b", (first, nothing)),
        System("c", (first, by_row)),
        System("d", (other,)),
    ]
    results = evaluate_systems(Task(bench(), batches(2, 1)), systems)
    assert (first.calls, other.calls) == (2, 2)
    assert [result.system for result in results] == ["a", "b", "c", "d"]
    assert list(results[1].seconds) == ["reading queries", "Fixed", "nothing"]


def test_a_stage_that_does_nothing_changes_nothing() -> None:
    first = Fixed(2, 0, 1)
    plain, same = evaluate_systems(Task(bench(), batches(3)), [System("a", (first,)), System("b", (first, nothing))])
    assert plain.scores["plain"].map == same.scores["plain"].map == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert np.array_equal(plain.ranking.ids, same.ranking.ids)


def test_a_reversed_list_is_repaired() -> None:
    first = Fixed(5, 4, 3, 2, 1, 0)
    broken, repaired = evaluate_systems(Task(bench(), batches(3)), prefixes((first, by_row)))
    assert broken.scores["plain"].map == pytest.approx((1 / 5 + 2 / 6) / 2)
    assert repaired.scores["plain"].map == 1


def test_batches_of_unequal_length_are_padded() -> None:
    class Growing:
        def __call__(self, queries: Queries, ranking: Ranking | None = None) -> Ranking:
            return Fixed(*range(len(queries)))(queries)

    (result,) = evaluate_systems(Task(bench(), batches(1, 2)), [System("a", (Growing(),))])
    assert result.ranking.ids.tolist() == [[0, -1], [0, 1], [0, 1]]
    assert result.scores["plain"].ap.tolist() == [0.5, 1, 1]


def test_database_rows_become_benchmark_rows() -> None:
    rows = np.array([-1, 3, 1, 0])
    (result,) = evaluate_systems(Task(bench(), batches(3), rows), [System("a", (Fixed(3, 2, 1),))])
    assert result.ranking.ids[0].tolist() == [0, 1, 3]
    with pytest.raises(UsageError, match="1 photos were found that are not of benchmark toy"):
        evaluate_systems(Task(bench(), batches(3), rows), [System("a", (Fixed(3, 0),))])
    with pytest.raises(UsageError, match="row 9"):
        evaluate_systems(Task(bench(), batches(3), rows), [System("a", (Fixed(9),))])


def test_bad_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="3 queries, 2 were searched"):
        evaluate_systems(Task(bench(), batches(2)), [System("a", (Fixed(0),))])
    with pytest.raises(UsageError, match="system a has no stages"):
        evaluate_systems(Task(bench(), batches(3)), [System("a", ())])
    with pytest.raises(UsageError, match="1 rankings for 3 queries"):
        evaluate_systems(Task(bench(), batches(3)), [System("a", (lambda q, _: Fixed(0)(q.only(0)),))])
    with pytest.raises(UsageError, match="row 2 of 2"):
        evaluate_systems(Task(bench(2), batches(3)), [System("a", (Fixed(0, 1, 2),))])


def test_prefixes_name_what_each_stage_adds() -> None:
    stages = (Fixed(0), nothing, by_row, nothing)
    systems = prefixes(stages)
    assert [system.name for system in systems] == ["Fixed", "+ nothing", "+ by_row", "+ nothing 2"]
    assert [len(system.stages) for system in systems] == [1, 2, 3, 4]


def test_the_command_of_a_run() -> None:
    run = Run("holidays", "my photos", settings={"binary": False, "words": 64, "contrast": 0.01, "name": "x"})
    words = shlex.split(run.command)
    assert words[:5] == ["resight", "evaluate", "holidays:my photos", "--recipe", "classic"]
    assert words[5:] == ["--set", "binary=false", "--set", "words=64", "--set", "contrast=0.01", "--set", "name=x"]
    run = replace(run, settings={}, features="f.npy", query_features="q.npy", uncropped=True, recipe="search")
    assert run.command.endswith("--recipe search --features f.npy --query-features q.npy --uncropped")


def test_peak_memory_is_in_bytes() -> None:
    assert 10e6 < peak_memory() < 1e12


def test_an_experiment_names_the_codebook_of_a_system(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "benchmarks: ['folders:a', 'folders:b']\n"
        "systems: {one: {recipe: how, codebook: '{benchmark}.safetensors'}, two: {recipe: how, codebook: how=w}}\n"
    )
    runs, _ = read_experiment(tmp_path / "x.yaml")
    assert [run.codebooks for run in runs["one"]] == [{"": "folders.safetensors"}] * 2
    assert [run.codebooks for run in runs["two"]] == [{"how": "w"}] * 2
    assert runs["two"][0].command == "resight evaluate folders:a --recipe how --codebook how=w"
