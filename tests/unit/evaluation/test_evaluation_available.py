from pathlib import Path

from resight.evaluation.available import PLACES, benchmarks_at_hand
from resight.evaluation.ground_truth import KNOWN


def test_what_is_at_hand(tmp_path: Path) -> None:
    (tmp_path / "holidays/images").mkdir(parents=True)
    for name in ("100000.jpg", "100001.jpg"):
        (tmp_path / "holidays/images" / name).touch()
    (tmp_path / "ground_truth").mkdir()
    (tmp_path / "ground_truth/gnd_roxford5k.pkl").write_bytes(b"no pickle")
    found = {item.name: item for item in benchmarks_at_hand(tmp_path)}
    assert set(found) == set(PLACES) == set(KNOWN) - {"folders", "csv"}
    holidays = found["holidays"]
    assert holidays.benchmark is not None
    assert (len(holidays.benchmark.images), holidays.photos, holidays.problem) == (2, 2, "")
    assert found["roxford5k"].benchmark is None
    assert "gnd_roxford5k.pkl" in found["roxford5k"].problem
    assert found["instre"].path is None
    assert found["instre"].expected == "ground_truth/gnd_instre.mat"
