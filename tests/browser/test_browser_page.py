"""The page as a whole: its weight, its arithmetic, its key, and how soon it shows what was found."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from photo_factory import picture, save, view

FIRST_PAINT = 100_000  # bytes, everything that is loaded until the start page stands, but photos
SENT = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .filter(entry => !/thumbnail|[/]photos/.test(entry.name)).map(entry => [entry.name, entry.transferSize])"""


def test_first_paint_is_small_and_everything_comes_from_the_server(visiting, server):
    visit = visiting(server)
    visit.open()
    visit.page.get_by_text("Drop a photo here").wait_for()
    sent = visit.page.evaluate(SENT)
    assert len(sent) > 10
    assert sum(size for _, size in sent) <= FIRST_PAINT, sorted(sent, key=lambda one: -one[1])


def test_answers_to_the_page_are_cached(visiting, server):
    visit = visiting(server)
    visit.open("?view=photos")
    visit.page.locator(".tile img").first.wait_for()
    visit.page.wait_for_load_state("networkidle")
    visit.page.reload()
    visit.page.locator(".tile img").first.wait_for()
    visit.page.wait_for_load_state("networkidle")
    sent = visit.page.evaluate(
        """() => performance.getEntriesByType("resource")
          .filter(entry => entry.name.includes("thumbnail")).map(entry => entry.transferSize)"""
    )
    assert set(sent) == {0}


def test_first_result_is_shown_while_others_are_checked(visiting, server, tmp_path):
    """The ranking is there before the answer is complete; the marks are those that a measurement reads."""
    visit = visiting(server)
    visit.open()
    visit.page.get_by_text("Drop a photo here").wait_for()
    visit.page.locator("input[type=file]").first.set_input_files(save(tmp_path / "q.jpg", view(picture(0), 5)))
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()
    times = visit.page.evaluate(
        """() => ["dropped", "first-result", "done"]
          .map(name => performance.getEntriesByName(`resight-${name}`)[0].startTime)"""
    )
    assert times == sorted(times)


def test_homographies_are_those_of_numpy(visiting, server):
    visit = visiting(server)
    visit.open()
    rng = np.random.default_rng(0)
    for _ in range(5):
        matrix = np.eye(3) + rng.normal(0, [[0.2, 0.2, 40], [0.2, 0.2, 40], [1e-4, 1e-4, 1e-3]])
        points = rng.uniform(0, 500, (4, 2))
        inverse, mapped, css = visit.page.evaluate(
            """async ([matrix, points]) => {
              const { apply, invert, matrix3d } = await import("/page/geometry.js");
              const m = new DOMMatrix(matrix3d(matrix));
              const seen = points.map(([x, y]) => m.transformPoint(new DOMPoint(x, y)));
              const css = seen.map(({ x, y, w }) => [x / w, y / w]);
              return [invert(matrix), points.map(point => apply(matrix, point)), css];
            }""",
            [matrix.tolist(), points.tolist()],
        )
        expected = np.column_stack([points, np.ones(4)]) @ matrix.T
        expected = expected[:, :2] / expected[:, 2:]
        np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mapped, expected, rtol=1e-9)
        np.testing.assert_allclose(css, expected, rtol=1e-4)
    flat = [[1, 2, 3], [2, 4, 6], [0, 0, 1]]
    assert visit.page.evaluate("async m => (await import('/page/geometry.js')).invert(m)", flat) is None


def test_addresses_are_read_as_they_are_written(visiting, server):
    visit = visiting(server)
    visit.open()
    route = {
        "view": "search",
        "collection": "ü &x",
        "photo": "a-_b",
        "query": "",
        "recipe": "classic",
        "result": "r",
        "only": "match",
        "order": "name",
        "kind": "near",
        "boxes": [[1, 2, 30, 40], [5, 6, 70, 80]],
        "also": ["c", "d-_"],
        "without": ["e"],
        "by": "c",
        "options": {"verify": "50"},
        "where": {"folder": "a/b c", "from": "2019"},
    }
    both = """async route => {
      const { href, parse } = await import("/page/route.js");
      return parse(new URL(href(route), location).search);
    }"""
    assert visit.page.evaluate(both, route) == route
    bad = "?view=x&box=1,2,3&box=9,9,1,1&box=1,2,NaN,4&only=y&order=z"
    read = visit.page.evaluate("async bad => (await import('/page/route.js')).parse(bad)", bad)
    assert (read["view"], read["boxes"], read["only"], read["order"]) == ("search", [], "", "")


STREAM = 'id: 7\r\nevent: proof\r\ndata: {"a": "ü"}\r\n\r\n: quiet\n\nevent: done\ndata: [1,\ndata: 2]\n\nevent: lost\n'


def test_events_that_come_in_pieces_are_whole(visiting, server):
    visit = visiting(server)
    visit.open()
    found = visit.page.evaluate(
        """async text => {
          const { events } = await import("/page/api.js");
          const bytes = new TextEncoder().encode(text);
          const start = to => { for (const byte of bytes) to.enqueue(new Uint8Array([byte])); to.close(); };
          const stream = new ReadableStream({ start });
          const all = [];
          for await (const event of events(new Response(stream))) all.push(event);
          return all;
        }""",
        STREAM,
    )
    assert found == [{"event": "proof", "data": {"a": "ü"}, "id": "7"}, {"event": "done", "data": [1, 2], "id": ""}]


LOADED = """([selector, n]) => {
  const images = [...document.querySelectorAll(selector)];
  return images.length >= n && images.every(image => image.naturalWidth);
}"""


@pytest.fixture
def keyed(own_server, tmp_path):
    """A server that asks for a key, and a key that may read."""
    file = tmp_path / "keys"
    command = [sys.executable, "-m", "resight", "keys", "add", "--keys", str(file), "--scope", "read"]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    key = re.search(r"rs_\S+", made)
    assert key is not None, made
    return own_server("--keys", str(file)), key[0]


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_key_is_asked_for_and_used_for_pictures_too(keyed, visiting, size, tmp_path):
    server, key = keyed
    visit = visiting(server, size)
    visit.open()
    visit.page.get_by_role("dialog", name="This server asks for a key").wait_for()
    visit.audit()
    visit.shot("key")
    visit.page.get_by_label("Key", exact=True).fill("rs_wrong_key")
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("alert").get_by_text("does not accept").wait_for()
    visit.page.get_by_label("Key", exact=True).fill(key)
    visit.page.keyboard.press("Enter")
    visit.page.locator(".strip img").first.wait_for()
    visit.page.locator(".strip a").first.click()
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()
    visit.page.wait_for_function(LOADED, arg=[".card.proven img", 2])
    assert visit.page.locator(".card.proven img").first.get_attribute("src").startswith("blob:")
    visit.page.locator(".card.proven .frame").first.click()
    visit.page.wait_for_function(LOADED, arg=[".stage img", 2])
    assert visit.page.context.cookies() == []
    assert key not in visit.page.url
    visit.page.keyboard.press("Escape")
    visit.open()
    visit.page.locator("input[type=file]").first.set_input_files(save(tmp_path / "q.jpg", view(picture(0), 5)))
    visit.page.get_by_role("heading", name="3 matches").wait_for()
    visit.page.wait_for_function(LOADED, arg=["box-editor img", 1])
    assert not [problem for problem in visit.problems if "401" not in problem]
    visit.page.get_by_role("button", name="Settings").click()
    visit.page.get_by_role("button", name="Forget the key").click()
    visit.page.get_by_role("dialog", name="This server asks for a key").wait_for()
    visit.problems.clear()  # the browser itself notes each 401


def test_search_without_scripts(visiting, server, world):
    visit = visiting(server, java_script_enabled=False)
    visit.open()
    visit.page.get_by_label("Photo").set_input_files(world.photos.folder / "001-1.jpg")
    visit.shot("plain-form")
    visit.page.get_by_role("button", name="Search").click()
    visit.page.get_by_role("heading", name="3 matches").wait_for()
    names = visit.page.locator(".card.proven img").evaluate_all("images => images.map(image => image.alt)")
    assert sorted(names) == sorted(world.photos.groups[1])
    visit.shot("plain-results")
