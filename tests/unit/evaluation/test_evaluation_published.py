import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resight.errors import UsageError
from resight.evaluation.experiment import Evaluation, Result, Run
from resight.evaluation.matrix import matrix_page
from resight.evaluation.metrics import Scores
from resight.evaluation.published import (
    Cell,
    Outcome,
    judge,
    missing_files,
    printed,
    reproduce_cell,
    select,
)
from resight.evaluation.published_file import parse_table, read_tables

TABLE: dict[str, Any] = {
    "table": "Z",
    "title": "a toy",
    "source": "a <paper>",
    "tolerance": 0.5,
    "columns": {
        "Oxf M": {"benchmark": "roxford5k", "path": "gnd.pkl", "level": "medium", "photos": "jpg"},
        "Oxf+ M": {
            "benchmark": "roxford5k",
            "path": "gnd.pkl",
            "level": "medium",
            "photos": "jpg",
            "distractors": "r1m",
        },
        "Hol": {"benchmark": "holidays", "path": "hol"},
    },
    "files": {"gnd.pkl": "from the authors"},
    "rows": [
        {
            "name": "GeM",
            "recipe": "search",
            "features": "d/{benchmark}.npy",
            "distractors": "d/r1m.npy",
            "published": {"Oxf M": 64.7, "Oxf+ M": 40, "Hol": 80.25},
        },
        {
            "name": "local",
            "recipe": "classic",
            "codebook": "rootsift=words/{benchmark}.safetensors",
            "stages": 1,
            "aim": "at least",
            "published": {"Oxf M": 50, "Oxf+ M": 40},
        },
    ],
}


def changed(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    edit(table)
    return table


def evaluation(*means: float, level: str = "medium") -> Evaluation:
    results = tuple(Result("s", {level: Scores("AP", np.array([mean]), (), np.empty((1, 0)))}, {}) for mean in means)
    return Evaluation(Run("b", "p"), 1, ("q",), "", "", results, (), 0, 0)


def cells() -> dict[tuple[str, str], Cell]:
    return {(cell.row, cell.column): cell for cell in parse_table(TABLE).cells}


def test_a_table_becomes_runs() -> None:
    found = cells()
    assert len(found) == 5
    run = found["GeM", "Oxf M"].at(Path("/data"))
    assert (run.path, run.features, run.photos, run.distractors) == (
        "/data/gnd.pkl",
        "/data/d/roxford5k.npy",
        None,
        None,
    )
    assert found["GeM", "Oxf+ M"].run.distractors == "d/r1m.npy"
    assert found["local", "Oxf+ M"].run.distractors == "r1m"
    assert found["local", "Oxf M"].run.photos == "jpg"
    assert found["GeM", "Hol"].level == "plain"
    local = found["local", "Oxf M"]
    assert local.run.codebooks == {"rootsift": "words/roxford5k.safetensors"}
    assert local.at(Path("/data")).codebooks == {"rootsift": "/data/words/roxford5k.safetensors"}
    assert local.needs == ("gnd.pkl", "jpg", "words/roxford5k.safetensors")
    assert (found["local", "Oxf M"].run.stages, found["local", "Oxf M"].aim) == (1, "at least")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("columns"), "lacks columns"),
        (lambda t: t.update(colour="red"), "unknown keys colour"),
        (lambda t: t["rows"][0].pop("recipe"), "lacks recipe"),
        (lambda t: t["rows"][0].update(published={"Oxf M": "high"}), "'high' where a number is needed"),
        (lambda t: t["rows"][0].update(published={"Oxf X": 1}), "does not have"),
        (lambda t: t["rows"][0].update(features="../secret.npy"), "not inside the data folder"),
        (lambda t: t["rows"][0].update(features="/etc/passwd"), "not inside the data folder"),
        (lambda t: t["rows"][0].pop("distractors"), "names no file of their descriptors"),
        (lambda t: t["rows"][0].update(aim="below"), "aim 'below'"),
        (lambda t: t["rows"].append(t["rows"][0]), "two rows of one name"),
        (lambda t: t["columns"]["Hol"].update(benchmark="mars"), "'mars', which is not known"),
        (lambda t: t.update(rows={}), "rows must be a list"),
        (lambda t: t.update(columns=[]), "columns must be a mapping"),
        (lambda t: t["rows"][0].update(needs=["../.."]), "not inside the data folder"),
        (lambda t: t["rows"][0].update(needs=["/etc"]), "not inside the data folder"),
        (lambda t: t["rows"][0].update(needs="gnd.pkl"), "needs of row GeM must be a list"),
        (lambda t: t["rows"][0].update(needs=[["gnd.pkl"]]), "needs of row GeM is .*, which must be text"),
        (lambda t: t["rows"][0].update(features=["d"]), "features of row GeM is .*, which must be text"),
        (lambda t: t["rows"][0].update(features=3), "features of row GeM is 3, which must be text"),
        (lambda t: t["rows"][1].update(settings={"weights": 3}), "weights of row local is 3, which must be text"),
        (lambda t: t["rows"][1].update(codebook="../words"), "names ../words, which is not inside the data folder"),
        (lambda t: t["rows"][1].update(codebook=["words"]), "codebook of row local is .*, which must be text"),
        (lambda t: t["rows"][1].update(benchmarks={"mars": {"k": 3}}), "settings for the unknown benchmark 'mars'"),
        (lambda t: t["rows"][1].update(benchmarks={"roxford5k": 3}), "settings of row local for roxford5k"),
        (lambda t: t["columns"]["Hol"].update(path=["x"]), "path of column Hol is .*, which must be text"),
        (lambda t: t["columns"]["Hol"].update(benchmark=["holidays"]), "benchmark of column Hol is"),
        (lambda t: t["rows"][1].update(stages=1.5), "has stages 1.5"),
        (lambda t: t["rows"][1].update(stages=float("inf")), "inf where a number is needed"),
        (lambda t: t.update(tolerance=float("nan")), "nan where a number is needed"),
    ],
)
def test_bad_tables_are_refused(edit: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        parse_table(changed(edit))
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(changed(edit)))
    with pytest.raises(UsageError, match=r"z\.yaml is not a table to reproduce"):
        read_tables(tmp_path)


def test_a_benchmark_may_have_settings_of_its_own() -> None:
    cells = {(c.row, c.column): c for t in read_tables() if t.name == "A" for c in t.cells}
    assert cells["GeM+GSS", "INSTRE"].run.settings == {"k": 9, "query_k": 10, "epochs": 500}
    assert cells["GeM+GSS", "ROxf H"].run.settings == {"k": 4, "query_k": 5, "epochs": 200}
    assert cells["GeM+GSS", "RPar M"].run.settings["query_k"] == 15
    verified = {column: cells["GeM+GSS_V-SV", column].run.settings for column in ("INSTRE", "ROxf M", "RPar M")}
    assert [(one["k"], one["query_k"]) for one in verified.values()] == [(50, 20), (5, 10), (5, 25)]
    assert verified["INSTRE"]["query_lists"] == "ransac/instre_query.npy"


@pytest.mark.parametrize("text", ["d/{benchmark:>999999999999}.npy", "d/{}.npy", "d/{benchmark.x}", "{", "{0[1]}"])
def test_only_the_name_of_the_benchmark_is_filled_in(text: str) -> None:
    filled = parse_table(changed(lambda t: t["rows"][0].update(features=text, needs=["{benchmark}" + text])))
    cell = filled.cells[0]
    assert cell.run.features == text
    assert "roxford5k" + text in cell.needs


def test_folders_without_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no tables"):
        read_tables(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        read_tables(tmp_path / "absent")
    (tmp_path / "z.yaml").write_text("{")
    with pytest.raises(UsageError, match="is not a table"):
        read_tables(tmp_path)


@pytest.mark.parametrize(
    ("mean", "equal", "at_least"),
    [(0.647, "OK", "OK"), (0.6421, "OK", "OK"), (0.6519, "OK", "OK"), (0.6530, "CLOSE", "OK"), (0.662, "CLOSE", "OK"),
     (0.6625, "FAIL", "OK"), (0.632, "CLOSE", "CLOSE"), (0.63, "FAIL", "FAIL"), (np.nan, "FAIL", "FAIL")],
)  # fmt: skip
def test_verdicts(mean: float, equal: str, at_least: str) -> None:
    cell = cells()["GeM", "Oxf M"]
    strict = Cell(**{**vars(cell), "aim": "equal"})
    loose = Cell(**{**vars(cell), "aim": "at least"})
    assert judge(strict, evaluation(mean))[0] == equal
    assert judge(loose, evaluation(mean))[0] == at_least


def test_the_level_of_the_column_is_judged() -> None:
    status, measured = judge(cells()["local", "Oxf M"], evaluation(0.99, 0.55))
    assert (status, measured) == ("OK", pytest.approx(55))
    with pytest.raises(UsageError, match="asks for level 'medium'"):
        judge(cells()["local", "Oxf M"], evaluation(0.5, level="plain"))


def test_memory_is_judged_in_the_unit_of_the_papers(tmp_path: Path) -> None:
    def edit(table: dict[str, Any]) -> None:
        table["columns"]["Oxf M"]["level"] = "memory"
        table["rows"][1]["published"] = {"Oxf M": 7.6}
        table["rows"][1]["aim"] = "equal"

    cell = next(cell for cell in parse_table(changed(edit)).cells if cell.row == "local")
    for path in cell.needs:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    million = replace(evaluation(0.1), memory_per_million=2048 * 4 * 1e6)  # 2048 floats a photo
    outcome = reproduce_cell(cell, tmp_path, lambda _: million)
    assert (outcome.status, outcome.measured) == ("OK", pytest.approx(7.629, abs=1e-3))
    twice = replace(million, memory_per_million=2 * 2048 * 4 * 1e6)
    assert reproduce_cell(cell, tmp_path, lambda _: twice).status == "FAIL"
    unknown = reproduce_cell(cell, tmp_path, lambda _: evaluation(0.1))
    assert (unknown.status, unknown.missing[0]) == (
        "MISSING",
        "row local asks for memory, which recipe classic does not measure here",
    )


def test_missing_says_which_file_and_where(tmp_path: Path) -> None:
    cell = cells()["GeM", "Oxf M"]
    expected = (f"{tmp_path}/gnd.pkl (from the authors)", f"{tmp_path}/d/roxford5k.npy")
    assert missing_files(cell, tmp_path) == expected
    outcome = reproduce_cell(cell, tmp_path, lambda _: pytest.fail("nothing is measured without its files"))
    assert (outcome.status, outcome.measured, outcome.missing) == ("MISSING", None, expected)
    for name in ("gnd.pkl", "d/roxford5k.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert reproduce_cell(cell, tmp_path, lambda _: evaluation(0.647)).status == "OK"

    def cannot(_: Run) -> Evaluation:
        raise UsageError("recipe 'search' is unknown")

    assert reproduce_cell(cell, tmp_path, cannot).missing == ("recipe 'search' is unknown",)


def test_rows_are_chosen_by_name() -> None:
    tables = (parse_table(TABLE),)
    assert len(select(tables, None, None)[0].cells) == 5
    assert [cell.row for cell in select(tables, "z", "gem")[0].cells] == ["GeM"] * 3
    assert [cell.row for cell in select(tables, None, "loc")[0].cells] == ["local"] * 2
    with pytest.raises(UsageError, match="no table 'Q': choose among Z"):
        select(tables, "Q", None)
    with pytest.raises(UsageError, match="choose among GeM, local"):
        select(tables, "Z", "HOW")


def test_the_tables_that_come_with_resight() -> None:
    tables = {table.name: table for table in read_tables()}
    assert list(tables) == ["A", "B", "C", "D", "E"]
    rows = {name: len({cell.row for cell in table.cells}) for name, table in tables.items()}
    assert (rows["A"], rows["B"], rows["C"], rows["D"]) == (15, 23, 4, 5)
    scores = {(c.table, c.row, c.column): c.published for table in tables.values() for c in table.cells}
    assert scores["A", "GeM+GSS_V-SV", "INSTRE"] == 92.4
    assert scores["A", "GeM+DSM", "RPar H"] == 56.2
    assert ("A", "GeM+DSM", "INSTRE") not in scores
    assert scores["B", "FIRe R50-", "RPar+1M H"] == 42.9
    assert scores["B", "HOW R18 + GCN", "val"] == 86.1
    assert scores["C", "blend + QE-SV + EGT", "private"] == 26.72
    assert scores["D", "OASIS", "Paris6k"] == 85.3
    assert scores["E", "ResNet-101 v2, GeM", "mAP"] == 84.4
    cells = [cell for table in tables.values() for cell in table.cells]
    needed = {path for cell in cells for path in (*cell.needs, *(one for order in cell.orders for one in order.needs))}
    sources = {path for table in tables.values() for cell in table.cells for path in cell.sources}
    assert sources <= needed  # none is explained that no row needs


def test_scores_are_printed_as_published() -> None:
    assert [printed(value) for value in (84.4, 80.0, 17.53, 20.3)] == ["84.4", "80.0", "17.53", "20.3"]


def test_the_matrix_holds_verdict_claim_and_command(tmp_path: Path) -> None:
    table = parse_table(TABLE)
    outcomes = [reproduce_cell(cell, tmp_path, lambda _: evaluation(0.647)) for cell in table.cells]
    outcomes[0] = Outcome(table.cells[0], "FAIL", 12.3456, (), "resight evaluate <x>")
    html = matrix_page([table], outcomes)
    assert html.count('<span class="status MISSING">') == 4 + 1
    assert "<b>12.35</b>" in html
    assert "resight evaluate &lt;x&gt;" in html
    assert "a &lt;paper&gt;" in html
    assert f"{tmp_path}/gnd.pkl (from the authors)" in html
    assert "published at least 50.0 ± 0.5" in html
    assert "<td>-</td>" in html
