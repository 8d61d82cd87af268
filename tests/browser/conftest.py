"""A real server process, and Debian's Chromium that opens its page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_album import make_album
from browser_server import Server, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

CHROMIUM = os.environ.get("RESIGHT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PATIENCE = 15_000  # milliseconds


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder for screenshots."""
    parser.addoption("--screenshots", metavar="FOLDER", help="write a screenshot of every view of the page into FOLDER")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or a skipped test that says why."""
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with dates, folders and duplicates."""
    return make_album(tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="session")
def server(world: Any, album: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two collections that nothing changes: `classic` of generated things, and the album."""
    with serve(world.path("classic"), album, log=tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture
def own_server(world: Any, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """own_server(*options): a server of a copy of the collection, which may be changed."""
    with ExitStack() as stack:

        def start(*options: str) -> Server:
            path = shutil.copytree(world.path("classic"), tmp_path / "mine.resight", dirs_exist_ok=True)
            return stack.enter_context(serve(path, options=options, log=tmp_path / "log"))

        yield start


@dataclass
class Visit:
    """A page in the browser, and what went wrong on it."""

    page: Page
    server: Server
    size: str
    folder: Path | None
    problems: list[str]

    def open(self, query: str = "") -> None:
        """Go to an address of the page, as it stands behind the slash."""
        self.page.goto(f"{self.server.url}/{query}")

    def shot(self, name: str) -> None:
        """Write a screenshot, where a folder for them was given."""
        if self.folder is not None:
            self.page.wait_for_timeout(450)  # until nothing glides any more
            self.page.screenshot(path=self.folder / f"{name}-{self.size}.png")

    def audit(self) -> None:
        """Fail where a rule of accessibility is broken."""
        assert self.page.evaluate(AUDIT) == []


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """The folder of `--screenshots`."""
    folder = request.config.getoption("--screenshots", default=None)
    if folder is None:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture
def visiting(browser: Browser, screenshots: Path | None) -> Iterator[Callable[..., Visit]]:
    """visiting(server, size): a new page; after the test it must have said and asked nothing it should not."""
    visits: list[Visit] = []

    def start(server: Server, size: str = "desktop", **options: Any) -> Visit:
        width, height = SIZES[size]
        settings = {"locale": "en-GB", "permissions": ["clipboard-read", "clipboard-write"], **options}
        touch = {"has_touch": True, "is_mobile": True} if size == "phone" else {}
        context = browser.new_context(viewport={"width": width, "height": height}, **touch, **settings)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visit = Visit(page, server, size, screenshots, [])
        page.on("console", lambda message: message.type in ("error", "warning") and visit.problems.append(message.text))
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        page.on("request", lambda asked: _foreign(asked, server) and visit.problems.append(f"asks {asked.url}"))
        visits.append(visit)
        return visit

    yield start
    for visit in visits:
        visit.page.context.close()
    assert [problem for visit in visits for problem in visit.problems] == []


def _foreign(asked: Request, server: Server) -> bool:
    return not asked.url.startswith((server.url, "blob:", "data:"))


@pytest.fixture(params=list(SIZES))
def visit(request: pytest.FixtureRequest, visiting: Callable[..., Visit], server: Server) -> Visit:
    """A page of `server` at the size of a desktop, then of a phone."""
    return visiting(server, request.param)
