"""One photo as local features see it: which figures there are, and where they are written."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from onnx_factory import write_network
from resight.errors import ImageError, UsageError
from resight.features.local.context import Context, ContextSettings
from resight.features.local.fire import FeatureIntegration
from resight.features.local.fire_encoder import Fire
from resight.features.local.how_encoder import How
from resight.features.local.rootsift import RootSift
from resight.features.local.trunk import open_trunk
from resight.reports.inspection import inspect_photo, inspection_page, save_inspection

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    path = write_network(tmp_path_factory.mktemp("net") / "net.onnx", channels=12)
    return open_trunk(path, max_side=96, scales=(1.0, 0.5))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "a <b>.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def context():
    context = Context(ContextSettings(12))
    with torch.no_grad():
        context.reweighting.outer.normal_(generator=torch.Generator().manual_seed(0))
    return context


def names(inspection):
    return [figure.name for figure in inspection.figures]


def test_each_kind_has_its_figures(photo, trunk, context):
    torch.manual_seed(0)
    how, fire = How(trunk, None, count=40), Fire(trunk, FeatureIntegration(12, 6, 8, 2).eval(), None)
    assert names(inspect_photo(photo, {"how": how})) == ["attention", "features", "edges"]
    changed = inspect_photo(photo, {"how": replace(how, context=context)})
    assert names(changed) == ["attention", "features", "smoothing", "edges"]
    assert names(inspect_photo(photo, {"fire": fire})) == ["attention", "features", "superfeatures"]
    assert names(inspect_photo(photo, {"rootsift": RootSift()})) == ["keypoints"]
    beside = inspect_photo(photo, {"rootsift": RootSift()}, trunk)
    assert names(beside) == ["keypoints", "attention", "features"]
    both = inspect_photo(photo, {"rootsift": RootSift(), "how": how})
    assert names(both) == ["rootsift-keypoints", "how-attention", "how-features", "how-edges"]
    assert both.features["how"] == 40


def test_plain_how_stands_beside_what_differs(photo, trunk, context):
    how = How(trunk, None)
    heights = []
    for encoder in (how, replace(how, context=context)):
        figure = inspect_photo(photo, {"how": encoder}).figures[0]
        heights.append(int.from_bytes(figure.png[20:24]))
    assert heights[1] > 1.6 * heights[0]  # two rows instead of one


def test_pages_and_folders(photo, trunk, tmp_path):
    seen = inspect_photo(photo, {"how": How(trunk, None)})
    (page,) = save_inspection(tmp_path / "page.html", seen)
    html = page.read_text()
    assert html.count("<figure") == 3
    assert "a &lt;b&gt;.png" in html
    assert "<b>.png" not in html
    files = save_inspection(tmp_path / "folder", seen)
    assert [file.name for file in files] == ["attention.png", "features.png", "edges.png"]
    assert files == save_inspection(tmp_path / "folder", seen)
    for file in files:
        with Image.open(file) as picture:
            assert picture.width > 300


def test_photos_without_a_cell(trunk, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "tiny.png")
    seen = inspect_photo(tmp_path / "tiny.png", {"how": How(trunk, None)})
    assert seen.figures == ()
    assert seen.features == {"how": 0}
    assert "smaller than one cell" in inspection_page(seen)


def test_places_that_cannot_be(photo, trunk, tmp_path):
    seen = inspect_photo(photo, {"how": How(trunk, None)})
    (tmp_path / "file").write_text("")
    for place in ("absent/page.html", "absent/folder", "file"):
        with pytest.raises(UsageError):
            save_inspection(tmp_path / place, seen)
    with pytest.raises(ImageError):
        inspect_photo(tmp_path / "none.jpg", {"how": How(trunk, None)})
