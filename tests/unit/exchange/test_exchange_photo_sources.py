"""Photos out of exports of FiftyOne and datasets of Hugging Face."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from photo_factory import make_photos, picture, save
from resight.cli import app
from resight.collection import open_collection
from resight.errors import UsageError
from resight.exchange.formats import export
from resight.exchange.photo_sources import _name, listed_photos, unpack_photos
from resight.exchange.request import Request


def test_samples_of_fiftyone_are_indexed(world: Any, tmp_path: Path) -> None:
    export("fiftyone", Request(open_collection(world.path("classic")), tmp_path / "fo", top=1))
    samples = tmp_path / "fo" / "samples.json"
    arguments = ["index", str(samples), "--to", str(tmp_path / "x.resight"), "--set", "count=50", "--set", "words=16"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    assert set(open_collection(tmp_path / "x.resight").ids) == set(world.photos.names)


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    make_photos(tmp_path / "data", objects=1)
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [{"filepath": "data/000-1.jpg"}]}))
    assert listed_photos([str(tmp_path / "samples.json"), "b"]) == [str(tmp_path / "data" / "000-1.jpg"), "b"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no", "cannot read"),
        ('{"samples": []}', "names no samples"),
        ('{"samples": [{"path": "x.jpg"}]}', "cannot read"),
        ('{"samples": [{"filepath": "/etc/passwd"}]}', "1 files that are no photos on this disk, such as /etc/passwd"),
        ('{"samples": [{"filepath": "gone.jpg"}]}', "such as .*gone.jpg"),
    ],
)
def test_samples_that_cannot_be_used(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text(content)
    with pytest.raises(UsageError, match=says):
        listed_photos([str(tmp_path / "samples.json")])


@pytest.mark.filterwarnings("ignore")  # of libraries that datasets loads
def test_photos_of_a_dataset_are_written_out(world: Any, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    export("hf-dataset", Request(open_collection(world.path("classic")), tmp_path / "hf"))
    printed = CliRunner().invoke(app, ["import", str(tmp_path / "hf"), "--photos", str(tmp_path / "photos")])
    assert printed.exit_code == 0, printed.output
    for name in world.photos.names:
        assert (tmp_path / "photos" / name).read_bytes() == (world.photos.folder / name).read_bytes()
    assert CliRunner().invoke(app, ["import", str(tmp_path / "hf")]).exit_code == 2


def test_names_that_try_to_leave_the_folder() -> None:
    taken: set[str] = set()
    given = ["../a.png", "/etc/b.png", "..", ".hidden.png", "x\0.png", "a.png", 7]
    assert [_name(name, b"", k, taken) for k, name in enumerate(given)] == [
        "a.png",
        "b.png",
        "00000002.jpg",
        "00000003.jpg",
        "00000004.jpg",
        "00000005.jpg",
        "00000006.jpg",
    ]


@pytest.mark.filterwarnings("ignore")
def test_names_in_a_dataset_do_not_leave_the_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    content = save(tmp_path / "a.png", picture(1, 24, 32)).read_bytes()
    names = ["../up.png", "00000003.png", "ok/a.png", "ok/a.png", "run.sh", None]
    rows = {"image": [{"bytes": content, "path": name} for name in names], "n": list(range(6))}
    features = datasets.Features({"n": datasets.Value("int32"), "image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "hf")
    assert unpack_photos(tmp_path / "hf", tmp_path / "out") == 6
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["00000003.png", "00000004.png", "00000005.png", "_00000003.png", "a.png", "up.png"]
    datasets.Dataset.from_dict({"n": [1]}).save_to_disk(tmp_path / "none")
    with pytest.raises(UsageError, match="has no column of photos: it has n"):
        unpack_photos(tmp_path / "none", tmp_path / "x")
