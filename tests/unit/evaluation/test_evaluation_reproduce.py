from pathlib import Path

import numpy as np
import pytest
import yaml

from resight.evaluation import reproduce as module
from resight.evaluation.experiment import Evaluation, Run
from resight.evaluation.published_file import read_tables
from resight.evaluation.reproduce import data_folder, outcome_json, reproduce

NAMES = [f"1{group:03d}0{photo}.jpg" for group in range(4) for photo in range(2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight descriptors of four things: three pairs are found, one is not."""
    x = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    x[7] = -x[6]
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", x)
    (tmp_path / "data" / "names.txt").write_text("\n".join(NAMES))
    return tmp_path / "data"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    claims = {"good": 79.0, "near": 80.5, "wrong": 95.0}
    rows = [
        {"name": name, "recipe": "search", "features": "x.npy", "published": {"mAP": claim}}
        for name, claim in claims.items()
    ]
    rows.append({"name": "small", "recipe": "search", "features": "x.npy", "published": {"GB": 0.022}})
    rows.append({"name": "absent", "recipe": "magic", "features": "y.npy", "published": {"mAP": 1.0}})
    rows.append({"name": "unknown", "recipe": "magic", "features": "x.npy", "published": {"mAP": 1.0}})
    columns = {"mAP": {"benchmark": "holidays", "path": "names.txt"}}
    columns["GB"] = {**columns["mAP"], "level": "memory"}
    table = {"table": "T", "title": "t", "source": "s", "tolerance": 1, "columns": columns, "rows": rows}
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "T.yaml").write_text(yaml.safe_dump(table))
    return tmp_path / "tables"


def test_every_row_gets_its_verdict(data: Path, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Run] = []

    def measure(run: Run, **_: object) -> Evaluation:
        measured.append(run)
        return evaluate_once(run, cache=tmp_path / "cache")

    evaluate_once = module.evaluate_once
    monkeypatch.setattr(module, "evaluate_once", measure)
    found = {outcome.cell.row: outcome for outcome in reproduce(read_tables(tables), data, cache=tmp_path / "cache")}
    # 3 queries find their other photo first; the fourth finds it behind the 6 others
    assert found["good"].measured == pytest.approx(100 * (3 + 1 / 7) / 4)
    assert {row: outcome.status for row, outcome in found.items()} == {
        "good": "OK", "near": "CLOSE", "wrong": "FAIL", "small": "OK",
        "absent": "MISSING", "unknown": "MISSING"}  # fmt: skip
    assert found["small"].measured == pytest.approx(6 * 4 * 1e6 / 2**30)
    assert len(measured) == 2  # the four rows of one run share it
    assert found["absent"].missing[0] == str(data / "y.npy")
    assert "recipe 'magic' is unknown for descriptors" in found["absent"].missing[1]
    assert "recipe 'magic' is unknown" in found["unknown"].missing[0]
    assert (
        found["good"].command == f"resight evaluate holidays:{data}/names.txt --recipe search --features {data}/x.npy"
    )
    content = outcome_json(found["absent"])
    assert (content["status"], content["measured"], content["published"]) == ("MISSING", None, 1.0)


def test_nothing_of_the_shipped_tables_runs_without_data(tmp_path: Path) -> None:
    outcomes = list(reproduce(read_tables(), tmp_path))
    assert {outcome.status for outcome in outcomes} == {"MISSING"}
    assert all(outcome.missing and outcome.measured is None for outcome in outcomes)


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RESIGHT_DATA", raising=False)
    assert data_folder(None) == Path("data")
    monkeypatch.setenv("RESIGHT_DATA", str(tmp_path))
    assert data_folder(None) == tmp_path
    assert data_folder(Path("x")) == Path("x")
