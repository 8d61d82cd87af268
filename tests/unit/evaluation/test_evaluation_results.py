import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation, Result, Run
from resight.evaluation.metrics import Scores
from resight.evaluation.results import (
    compare_evaluations,
    evaluation_json,
    read_evaluation,
    table_csv,
    table_json,
    table_latex,
    table_markdown,
    tabulate,
)


def scores(*ap: float) -> Scores:
    return Scores("trapezoid AP", np.array(ap), (1, 5), np.tile(np.array(ap)[:, None], (1, 2)))


def evaluation(*ap: float, benchmark: str = "toy", protocol: str = "trapezoid AP", level: str = "medium") -> Evaluation:
    result = Result("search", {level: scores(*ap)}, {"search": 0.5})
    queries = tuple(f"q{i}" for i in range(len(ap)))
    return Evaluation(Run(benchmark, "p"), 9, queries, "sum", protocol, (result,), ("a note",), 1.5, 4096)


def test_json_goes_out_and_comes_back(tmp_path: Path) -> None:
    first = evaluation(0.5, np.nan, 1.0)
    content = evaluation_json(first)
    (tmp_path / "r.json").write_text(json.dumps(content, allow_nan=False))
    assert content["systems"][0]["scores"]["medium"]["per_query"] == [0.5, None, 1.0]
    assert content["systems"][0]["scores"]["medium"]["mean"] == 0.75
    again = read_evaluation(tmp_path / "r.json")
    assert evaluation_json(again) == content
    assert again.final.scores["medium"].empty == 1


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("systems",), [], "no systems"),
        (("systems", 0, "scores"), {}, "no scores"),
        (("systems", 0, "scores", "medium", "per_query"), [0.5, float("inf"), 1.0], "infinite"),
        (("systems", 0, "scores", "medium", "per_query"), [0.5, 1.0], "shape"),
        (("systems", 0, "scores", "medium", "per_query"), [10**400, 0, 0], "fields|too large"),
        (("systems", 0, "scores", "medium", "at"), [float("inf"), 1], "fields"),
        (("images",), float("inf"), "fields"),
        (("run",), {"nothing": 1}, "fields"),
        (("run",), [], "fields"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, place: tuple[str, ...], value: object, message: str) -> None:
    content = evaluation_json(evaluation(0.5, np.nan, 1.0))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=f"is not a result of resight evaluate --json: .*({message})"):
        read_evaluation(tmp_path / "r.json")


def test_results_without_a_common_level_are_not_compared() -> None:
    with pytest.raises(UsageError, match="no level in common"):
        compare_evaluations(evaluation(0.5, level="easy"), evaluation(0.5, level="hard"))


def test_a_result_is_read_from_a_file_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match="pipe, socket or device"):
        read_evaluation(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match="folder"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', '{"format": 2}', "\x00"],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError, match=r"r\.json is not a result of resight evaluate --json"):
        read_evaluation(tmp_path / "r.json")
    with pytest.raises(UsageError, match="No such file"):
        read_evaluation(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("systems", 5),
        ("systems", [{"name": "x", "seconds": {}, "scores": {}}]),
        ("queries", ["one"]),
        ("run", {"a": 1}),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, key: str, value: object) -> None:
    content = {**evaluation_json(evaluation(0.5, 1.0)), key: value}
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is not a result"):
        read_evaluation(tmp_path / "r.json")


def test_comparison_needs_one_benchmark_and_protocol() -> None:
    ours, theirs = evaluation(*np.linspace(0.5, 0.9, 20)), evaluation(*np.linspace(0.3, 0.7, 20))
    assert compare_evaluations(ours, theirs)["medium"].difference == pytest.approx(0.2)
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_evaluations(ours, replace(theirs, checksum="other"))
    with pytest.raises(UsageError, match="protocol: uncropped"):
        compare_evaluations(ours, replace(theirs, protocol="protocol: uncropped"))


def test_tables() -> None:
    low, high = np.linspace(0.3, 0.7, 20), np.linspace(0.5, 0.9, 20)
    table = tabulate(
        [
            ("base_line", evaluation(*low)),
            ("better|50%", evaluation(*high)),
            ("base_line", evaluation(*low, benchmark="other", protocol="protocol: uncropped")),
            ("same", evaluation(*low)),
        ],
        baseline="base_line",
    )
    assert table.columns == ("toy medium", "other medium (protocol: uncropped)")
    markdown = table_markdown(table).splitlines()
    assert markdown[0] == "| system | toy medium | other medium (protocol: uncropped) |"
    assert markdown[2:5] == ["| base_line | 50.0 | 50.0 |", "| better\\|50% | 70.0* | - |", "| same | 50.0 | - |"]
    assert "differs from base_line, p < 0.05" in markdown[-1]
    latex = table_latex(table)
    assert r"base\_line & 50.0 & 50.0 \\" in latex
    assert r"better|50\% & 70.0$^*$ & - \\" in latex
    rows = list(csv.DictReader(io.StringIO(table_csv(table))))
    assert [row["system"] for row in rows] == ["base_line", "base_line", "better|50%", "same"]
    assert float(rows[2]["difference"]) == pytest.approx(20)
    assert float(rows[2]["p"]) < 0.01
    assert rows[0]["p"] == ""
    content = table_json(table)
    assert content["cells"]["better|50%"]["toy medium"]["mean"] == pytest.approx(70)
    assert len(content["evaluations"][1]["systems"][0]["scores"]["medium"]["per_query"]) == 20
    json.dumps(content, allow_nan=False)


def test_tables_say_what_was_left_out() -> None:
    text = table_markdown(tabulate([("a", evaluation(0.5, np.nan)), ("b", evaluation(np.nan, np.nan))]))
    assert "toy medium: 1 queries without positives are left out." in text
    assert "| b | no positives |" in text


def test_bad_tables_are_refused() -> None:
    with pytest.raises(UsageError, match="'a' was measured twice on toy medium"):
        tabulate([("a", evaluation(0.5)), ("a", evaluation(0.6))])
    with pytest.raises(UsageError, match="no system 'z'"):
        tabulate([("a", evaluation(0.5))], baseline="z")
