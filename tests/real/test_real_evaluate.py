"""The bench on real photographs and descriptors; skipped where they are not at hand."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resight.cli import app
from resight.evaluation.available import benchmarks_at_hand
from resight.evaluation.published import select
from resight.evaluation.published_file import read_tables
from resight.evaluation.reproduce import reproduce

DATA = Path(__file__).parents[2] / "../shared/data"
HOLIDAYS = DATA / "holidays" / "images"
DESCRIPTORS = DATA / "descriptors" / "holidays_resnet101v2_c4_gem.npy"


@pytest.fixture(autouse=True)
def at_hand() -> None:
    for path in (HOLIDAYS, DESCRIPTORS):
        if not path.exists():
            pytest.skip(f"{path} is not at hand")


def test_published_descriptors_are_scored_without_reading_photos(tmp_path: Path) -> None:
    arguments = ["evaluate", f"holidays:{HOLIDAYS}", "--features", str(DESCRIPTORS)]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    assert "84.4" in printed.output
    content = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert content["systems"][-1]["scores"]["plain"]["mean"] == pytest.approx(0.8438, abs=5e-5)
    assert len(content["queries"]) == 194
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, [*arguments, "--report", str(page)]).exit_code == 0
    assert 200_000 < page.stat().st_size < 5_000_000


@pytest.mark.parametrize("row", ["ResNet-101 v2, GeM", "colour histogram, 4 x 4 x 4"])
def test_quick_rows_of_table_e_are_reproduced(row: str, tmp_path: Path) -> None:
    (outcome,) = reproduce(select(read_tables(), "E", row), DATA, cache=tmp_path)
    assert (outcome.status, outcome.missing) == ("OK", ())


def test_the_annotation_at_hand_is_listed() -> None:
    found = {item.name: item for item in benchmarks_at_hand(DATA)}
    assert found["holidays"].photos == 520
    assert found["roxford5k"].benchmark is not None
    assert (len(found["roxford5k"].benchmark.images), found["roxford5k"].photos) == (4993, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        "MobileNetV2, GeM at two scales",
        "RootSIFT, binary ASMK, five assignments",
        "the first 50 strictly by homography inliers",
        "full precision ASMK + 0.1 of the standardised ResNet-101 similarity",
    ],
)
def test_rows_of_table_e_that_read_photos_are_reproduced(row: str, shared_cache: Path) -> None:
    (outcome,) = reproduce(select(read_tables(), "E", row), DATA, cache=shared_cache)
    assert (outcome.status, outcome.missing) == ("OK", ())


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows share what they extract."""
    return tmp_path_factory.mktemp("cache")
