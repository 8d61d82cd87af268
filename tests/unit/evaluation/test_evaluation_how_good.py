"""benchmarks/how_good.py and benchmarks/peers.py, and the page that they write."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from photo_factory import picture, save, view
from resight.cli import app
from resight.evaluation.evaluate import evaluate
from resight.evaluation.experiment import Run
from resight.evaluation.results import evaluation_json

ROOT = Path(__file__).parents[3]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOW_GOOD, PEERS = script("how_good"), script("peers")
PLAN = {
    "baseline": "histogram",
    "sets": {"toy": {"benchmark": "ukbench:{data}", "score": "ap", "columns": {"plain": "Toy"}}},
    "tables": {"things": ["Toy"]},
    "rows": {
        "histogram": {"arguments": "--recipe colour-histogram"},
        "Peer: SIFT": {"peer": "sift"},
        "not run": {"arguments": "--recipe classic"},
    },
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of four, all of one palette, which colours cannot tell apart."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(8):
        save(root / f"ukbench{number:05}.jpg", view(picture(number // 4), number % 4))
    return root


def test_the_page_says_what_was_measured() -> None:
    page, numbers = HOW_GOOD.PAGE.read_text(), json.loads(HOW_GOOD.NUMBERS.read_text())
    assert HOW_GOOD.written(page, numbers) == page, "python benchmarks/how_good.py page"
    measured = [cell for row in numbers["cells"].values() for cell in row.values()]
    assert measured
    assert all(cell["low"] <= cell["mean"] <= cell["high"] for cell in measured)


def test_the_numbers_are_those_of_the_plan() -> None:
    numbers, plan = json.loads(HOW_GOOD.NUMBERS.read_text()), yaml.safe_load(HOW_GOOD.PLAN.read_text())
    assert set(numbers["cells"]) <= set(plan["rows"])
    columns = {column for one in plan["sets"].values() for column in one["columns"].values()}
    assert columns == {column for table in plan["tables"].values() for column in table}
    assert {column for row in numbers["cells"].values() for column in row} <= columns


@pytest.mark.parametrize("row", yaml.safe_load(HOW_GOOD.PLAN.read_text())["rows"])
def test_the_commands_of_the_plan_are_right(row: str) -> None:
    from typer.main import get_command

    words = HOW_GOOD.command(yaml.safe_load(HOW_GOOD.PLAN.read_text()), row, "holidays", "DATA", "LISTS.txt")
    get_command(app).commands["evaluate"].make_context("evaluate", list(words[1:]))  # type: ignore[attr-defined]


def test_runs_are_made_once_and_collected(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    plan = {**PLAN, "rows": {row: one for row, one in PLAN["rows"].items() if row != "not run"}}
    first, peer = HOW_GOOD.jobs(plan, str(photos), tmp_path)
    assert shlex.join(peer.peer).endswith(f"peers.py sift ukbench:{photos} {tmp_path}/toy/peer-sift.txt")
    assert first.result == tmp_path / "toy" / "histogram.json"
    assert HOW_GOOD.done(first, "")
    made = first.result.stat().st_mtime_ns
    assert HOW_GOOD.done(first, "")
    assert first.result.stat().st_mtime_ns == made
    direct = evaluation_json(evaluate(Run("ukbench", str(photos), "colour-histogram")))
    numbers = HOW_GOOD.collect(PLAN, tmp_path)
    assert numbers["cells"]["histogram"]["Toy"]["mean"] == direct["systems"][0]["scores"]["plain"]["mean"]
    assert numbers["cells"]["not run"] == {} == numbers["cells"]["Peer: SIFT"]
    assert json.loads(HOW_GOOD.as_lines(numbers)) == numbers
    assert "| not run |" not in HOW_GOOD.table(numbers, ["Toy"])


def test_differences_are_marked_where_they_are_sure() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(60) / 2
    scored = {"base": base, "better": base + 0.3, "worse": base - 0.3 * base, "same": base[::-1].copy()}
    cells = HOW_GOOD.measured(scored, "base", 1.0)
    marks = {row: HOW_GOOD.cell(one).split("**")[2].split()[0] for row, one in cells.items() if row != "base"}
    assert marks["better"] == "*"
    assert marks["worse"] == "°"
    assert marks["same"] not in "*°"
    assert cells["better"]["difference"] == pytest.approx(30)
    assert cells["better"]["holm"] == pytest.approx(3 * cells["better"]["p"], rel=1e-3)
    assert HOW_GOOD.cell(HOW_GOOD.measured({"base": np.full(9, 4.0)}, "base", 4.0)["base"]).startswith("**4.00** 2.8")


def test_markers_must_stand_once() -> None:
    assert HOW_GOOD.between("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="0 times"):
        HOW_GOOD.between("a", "x", "new\n")


def test_the_peer_of_opencv_finds_the_views_of_a_thing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "sift", f"ukbench:{photos}", str(tmp_path / "lists.txt")])
    PEERS.main()
    found = evaluate(Run("ukbench", str(photos), "lists", lists=str(tmp_path / "lists.txt")))
    assert found.final.scores["plain"].map == 4
