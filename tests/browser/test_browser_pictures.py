"""The pictures of the docs, of the photographs of `resight demo`: made anew by `--demo FOLDER`."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from service_process import serving

DOCS = Path(__file__).parents[2] / "docs" / "images"
QUERY = "astronaut-00.jpg"
BOX = "250,60,480,420"
GAP = 24  # pixels between the phones


@pytest.fixture(scope="module")
def demo(request, tmp_path_factory):
    """A server of the collection of the demonstration."""
    folder = request.config.getoption("--demo", default=None)
    if folder is None:
        pytest.skip("the pictures are not made: name the folder of `resight demo --to FOLDER` by --demo")
    with serving(tmp_path_factory.mktemp("demo") / "log", Path(folder) / "demo.resight") as running:
        yield running


def searched(visit):
    """Search with a box on the first photo of the demo."""
    visit.open("?view=photos&order=name")
    visit.page.locator(".tile .frame").first.wait_for()
    address = visit.page.get_by_role("link", name=f"Open {QUERY}").get_attribute("href")
    key = re.search(r"photo=([\w-]+)", address)[1]
    visit.open(f"?photo={key}&box={BOX}")
    visit.page.locator(".found:not([aria-busy]) .card.proven img").nth(3).wait_for()
    return key


def shown(visit):
    """The page as it is, once all pictures on it are there."""
    visit.page.wait_for_load_state("networkidle")
    visit.page.wait_for_timeout(500)
    return Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")


def test_pictures_of_a_search_and_its_proof(demo, visiting):
    visit = visiting(demo)
    searched(visit)
    shown(visit).save(DOCS / "page-search.jpg", quality=80, optimize=True)
    visit.page.locator(".card.proven .frame").nth(3).click()
    visit.page.locator(".match").first.wait_for(state="attached")
    shown(visit).save(DOCS / "page-proof.jpg", quality=80, optimize=True)
    visit.page.get_by_role("radio", name="One on the other").check()
    shown(visit).save(DOCS / "page-compare.jpg", quality=80, optimize=True)


def test_picture_of_three_phones(demo, visiting):
    visit = visiting(demo, "phone", color_scheme="dark")
    key = searched(visit)
    screens = [shown(visit)]
    visit.page.locator(".card.proven .frame").nth(3).click()
    visit.page.locator(".match").first.wait_for(state="attached")
    screens.append(shown(visit))
    visit.open(f"?view=neighbours&photo={key}")
    visit.page.locator(".net .node").nth(1).wait_for()
    screens.append(shown(visit))
    width, height = screens[0].size
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    for i, screen in enumerate(screens):
        sheet.paste(screen, (i * (width + GAP), 0))
    sheet.save(DOCS / "page-phones.jpg", quality=80, optimize=True)
