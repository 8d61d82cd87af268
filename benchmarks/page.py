"""How soon the page shows what was found: `python benchmarks/page.py DEMO`, the folder that `resight demo --to` wrote.

Opens the page of a real server in Chromium, gives it every sixteenth photo as a file, and reads the marks that the page
sets: when the photo was given, when the first results stood, when all were checked. A bare upload of the same file to
the same server, answered without a search, is the baseline of the same run.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
MARKS = "() => ['dropped', 'first-result', 'done'].map(n => performance.getEntriesByName(`resight-${n}`)[0].startTime)"
SENT = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .filter(e => !/thumbnail|[/]photos/.test(e.name)).reduce((sum, e) => sum + e.transferSize, 0)"""
BARE = """async url => {
  const form = new FormData();
  form.set("file", new Blob([new Uint8Array(200_000)]), "x.jpg");
  const begin = performance.now();
  await (await fetch(url, { method: "POST", body: form })).text();
  return performance.now() - begin;
}"""


def main(demo: Path) -> None:
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "resight", "serve", str(demo / "demo.resight"), "--port", "0"]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            measure(address(Path(log.name)), sorted((demo / "photos").glob("*.jpg"))[::16])
        finally:
            server.terminate()
            server.wait()


def address(log: Path) -> str:
    """Where the server answers, once it does."""
    while not (found := re.search(r"page: (http://\S+)\s", log.read_text())):
        time.sleep(0.1)
    return found[1]


def measure(url: str, photos: list[Path]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page()
        page.goto(url)
        page.locator(".drop").wait_for()
        print(f"first paint: {page.evaluate(SENT)} bytes")
        bare = [page.evaluate(BARE, f"{url}v1/collections/none/search") for _ in photos]
        times = [search(page, url, photo) for photo in photos]
        browser.close()
    for name, values in (
        ("bare upload", bare),
        ("first result", [t[0] for t in times]),
        ("done", [t[1] for t in times]),
    ):
        ratio = statistics.median(values) / statistics.median(bare)
        print(
            f"{name}: median {statistics.median(values):.0f} ms, worst {max(values):.0f} ms, {ratio:.1f} bare uploads"
        )


def search(page: Page, url: str, photo: Path) -> tuple[float, float]:
    """Milliseconds from the photo to the first result, and to the last."""
    page.goto(url)
    page.locator(".drop").wait_for()
    page.locator("input[type=file]").first.set_input_files(photo)
    page.locator(".found:not([aria-busy]) .card").first.wait_for()
    dropped, first, done = page.evaluate(MARKS)
    return first - dropped, done - dropped


if __name__ == "__main__":
    main(Path(sys.argv[1]))
