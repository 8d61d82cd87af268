"""Dropping, pasting, choosing and photographing a query; boxes; results; deep links."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from photo_factory import picture, save, view
from resight.serving.photo_keys import key_of

NEW = """([bytes, kind, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "image/jpeg" }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="session")
def query(tmp_path_factory):
    """A photo of the first object from a viewpoint that no stored photo has."""
    return save(tmp_path_factory.mktemp("query") / "query.jpg", view(picture(0), 17))


@pytest.fixture(scope="session")
def unknown(tmp_path_factory):
    """A photo of something that is in no collection."""
    return save(tmp_path_factory.mktemp("query") / "unknown.jpg", picture(991))


def give(visit, kind, path: Path):
    """Drop or paste a file."""
    visit.page.evaluate(NEW, [base64.b64encode(path.read_bytes()).decode(), kind, path.name])


def matches(visit):
    """Names of the photos that are called a match, once the search has ended."""
    visit.page.locator(".found:not([aria-busy])").wait_for()
    return visit.page.locator(".card.proven .name").all_inner_texts()


def choose(visit, path):
    """Choose a file by the button of the page."""
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Choose a photo").click()
    chooser.value.set_files(path)


def test_start_page(visit):
    visit.open()
    visit.page.get_by_role("heading", name="Find every photo").wait_for()
    visit.page.locator(".strip img").first.wait_for()
    visit.audit()
    visit.shot("start")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_photos_are_searched(visit, query, world, kind):
    visit.open()
    visit.page.get_by_text("Drop a photo here").wait_for()
    give(visit, kind, query)
    assert sorted(matches(visit)) == sorted(world.photos.groups[0])
    assert "query=" in visit.page.url
    visit.audit()
    visit.shot("results")
    assert visit.page.locator("#live").inner_text().startswith("3 matches")


def test_chosen_photo_and_its_address_find_the_same(visit, query, visiting):
    visit.open()
    choose(visit, query)
    names = matches(visit)
    again = visiting(visit.server, visit.size)
    again.page.goto(visit.page.url)
    assert matches(again) == names
    assert again.page.locator("box-editor img").evaluate("image => image.naturalWidth > 0")


def test_photo_without_partner_says_so(visit, unknown):
    visit.open()
    choose(visit, unknown)
    visit.page.get_by_role("heading", name="No confident match").wait_for()
    assert not visit.page.locator(".card.proven").count()
    visit.audit()
    visit.shot("no-match")


def test_file_that_is_no_photo_is_refused_in_words(visit, tmp_path):
    wrong = tmp_path / "wrong.jpg"
    wrong.write_bytes(b"this is no photo")
    visit.open()
    choose(visit, wrong)
    alert = visit.page.get_by_role("alert")
    alert.wait_for()
    assert "photo" in alert.inner_text().lower() or "image" in alert.inner_text().lower()
    visit.audit()
    visit.shot("refused")
    visit.problems.clear()  # the browser itself notes the 415


def test_photo_from_the_camera(visiting, server):
    visit = visiting(server)
    visit.open()
    visit.page.get_by_role("button", name="Take a photo").click()
    visit.page.get_by_role("button", name="Take the photo").click()
    visit.page.get_by_role("heading", name=re.compile("No confident match|Nothing found|matches?$")).wait_for()
    assert "query=" in visit.page.url


def test_boxes_by_mouse_move_resize_and_remove(visiting, server, query):
    visit = visiting(server)
    visit.open()
    choose(visit, query)
    matches(visit)
    frame = visit.page.locator("box-editor").bounding_box()
    mouse = visit.page.mouse

    def drag(x0, y0, x1, y1):
        mouse.move(frame["x"] + x0, frame["y"] + y0)
        mouse.down()
        mouse.move(frame["x"] + x1, frame["y"] + y1, steps=4)
        mouse.up()
        visit.page.wait_for_url(re.compile(r"box="))

    drag(40, 40, 200, 160)
    first = box_of(visit)
    visit.shot("box")
    drag(120, 100, 150, 120)  # inside: moves
    moved = box_of(visit, unlike=first)
    assert moved[2] - moved[0] == pytest.approx(first[2] - first[0], abs=2)
    assert moved[0] > first[0]
    assert moved[1] > first[1]
    drag(230, 180, 250, 200)  # the corner: resizes
    resized = box_of(visit, unlike=moved)
    assert resized[:2] == pytest.approx(moved[:2], abs=2)
    assert resized[2] > moved[2]
    assert sorted(matches(visit)) == sorted(set(matches(visit)))
    visit.page.keyboard.press("Delete")
    visit.page.wait_for_url(lambda url: "box=" not in url)
    assert visit.page.locator(".box").count() == 0


def box_of(visit, unlike=None):
    """The first box of the address, once it is another one."""
    for _ in range(100):
        found = re.search(r"box=([\d,]+)", visit.page.url)
        box = [int(side) for side in found[1].split(",")] if found else None
        if box and box != unlike:
            return box
        visit.page.wait_for_timeout(50)
    raise AssertionError(f"no box but {unlike} in {visit.page.url}")


def test_boxes_by_keyboard(visit, query):
    visit.open()
    choose(visit, query)
    matches(visit)
    visit.page.get_by_role("button", name="Add a box").focus()
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.className") == "box"
    first = box_of(visit)
    visit.page.keyboard.press("ArrowRight")
    moved = box_of(visit, unlike=first)
    assert moved[0] > first[0]
    visit.page.keyboard.press("Shift+ArrowDown")
    resized = box_of(visit, unlike=moved)
    assert resized[3] > moved[3]
    visit.page.keyboard.press("Delete")
    visit.page.wait_for_url(lambda url: "box=" not in url)


def test_two_boxes_by_touch_are_sent_as_pixels_of_the_photo(visiting, server, query):
    visit = visiting(server, "phone")
    visit.open()
    choose(visit, query)
    matches(visit)
    visit.page.get_by_role("button", name="Draw", exact=True).click()
    drag = """([x0, y0, x1, y1]) => {
      const editor = document.querySelector("box-editor"), frame = editor.getBoundingClientRect();
      const common = { pointerId: 1, pointerType: "touch", isPrimary: true, bubbles: true };
      const fire = (type, x, y) => editor.dispatchEvent(new PointerEvent(type,
        { ...common, clientX: frame.x + x * frame.width, clientY: frame.y + y * frame.height }));
      editor.setPointerCapture = () => undefined;
      fire("pointerdown", x0, y0); fire("pointermove", x1, y1); fire("pointerup", x1, y1);
    }"""
    visit.page.evaluate(drag, [0.25, 0.25, 0.5, 0.5])
    visit.page.evaluate(drag, [0.6, 0.6, 0.9, 0.9])
    visit.page.wait_for_url(re.compile(r"box=.*box="))
    assert re.findall(r"box=([\d,]+)", visit.page.url) == ["80,60,160,120", "192,144,288,216"]
    matches(visit)
    visit.audit()
    visit.shot("boxes")


def test_search_with_a_photo_of_the_collection_and_matches_only(visit):
    visit.open()
    visit.page.locator(".strip a").first.click()
    names = matches(visit)
    assert len(names) >= 2
    visit.page.get_by_role("button", name="Matches only").click()
    assert visit.page.locator(".card").count() == visit.page.locator(".card.proven").count() == len(names)
    query = visit.page.locator(".known .name").inner_text().split(" ")[0]
    visit.page.locator(".card.proven").nth(1).get_by_role("link", name=re.compile("^Search with")).click()
    visit.page.locator(".known .name", has_text=names[1]).wait_for()
    assert sorted([*matches(visit), names[1]]) == sorted([*names, query])
    visit.page.go_back()
    visit.page.locator(".known .name", has_text=query).wait_for()
    assert matches(visit) == names


def test_recipe_and_option_are_part_of_the_address(visiting, server, query):
    visit = visiting(server)
    visit.open()
    choose(visit, query)
    names = matches(visit)
    visit.page.locator("summary", has_text="Method").click()
    field = visit.page.locator("details:has(#recipe) input[type=number]").first
    name = field.get_attribute("id").removeprefix("option-")
    field.fill("7")
    field.press("Enter")
    visit.page.wait_for_url(re.compile(rf"o\.{name}=7"))
    assert set(matches(visit)) <= set(names)
    visit.shot("method")


def test_files_of_the_answer_hold_what_is_shown(visiting, server, query):
    visit = visiting(server)
    visit.open()
    choose(visit, query)
    names = matches(visit)
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="Download the results as CSV").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0] == "rank,id,score,match,inliers,key"
    assert [row.split(",")[1] for row in rows[1:] if ",proven," in row] == names
    link = visit.page.get_by_role("link", name="Download the results as JSON").get_attribute("href")
    answer = server.get(link).json
    assert [result["id"] for result in answer["results"] if result["match"] == "proven"] == names


def test_examples_refine_the_search_and_are_part_of_its_address(visit, server, visiting):
    """Photos of another thing are found, too, with an example of it, and those of the first left out with another."""
    first = f"?collection=classic&photo={key_of('001-1.jpg')}"
    visit.open(first)
    assert sorted(matches(visit)) == ["001-0.jpg", "001-2.jpg"]
    visit.open(f"{first}&also={key_of('004-1.jpg')}")
    assert sorted(matches(visit)) == ["001-0.jpg", "001-2.jpg", "004-0.jpg", "004-2.jpg"]
    visit.page.get_by_role("link", name=re.compile(r"^004-0.jpg: Match")).click()
    visit.page.locator("dialog .badge.proven").wait_for()  # proven by the example, not by the query
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("button", name="001-0.jpg shows something else").focus()
    visit.page.keyboard.press("Enter")
    visit.page.locator(".card", has_text="001-0.jpg").wait_for(state="detached")
    assert sorted(matches(visit)) == ["004-0.jpg", "004-2.jpg"]
    assert f"without={key_of('001-0.jpg')}" in visit.page.url
    chip = visit.page.get_by_role("button", name="Do not leave out 001-0.jpg any more")
    assert chip.evaluate("chip => chip === document.activeElement")
    visit.audit()
    visit.shot("examples")
    again = visiting(server, visit.size, locale="de-DE")
    again.page.goto(visit.page.url)
    assert sorted(matches(again)) == ["004-0.jpg", "004-2.jpg"]
    assert again.page.get_by_role("button", name="004-1.jpg nicht mehr mitsuchen").is_visible()
    chip.press("Enter")
    visit.page.locator(".card", has_text="001-0.jpg").wait_for()
    assert "without=" not in visit.page.url
    mark = visit.page.get_by_role("button", name="001-2.jpg shows it, too")
    assert mark.get_attribute("aria-pressed") == "false"
    mark.press("Enter")
    visit.page.locator(".chips button").nth(1).wait_for()
    matches(visit)
    assert mark.get_attribute("aria-pressed") == "true"
    assert mark.evaluate("mark => mark === document.activeElement")


def test_copies_of_a_file_are_one_card(visit):
    """Of two photos of one thing, one is there twice; all three are matches."""
    visit.open("?view=photos&collection=album&order=name&folder=market")
    key = visit.page.locator(".tile", has=visit.page.get_by_label("Open photo-01.jpg")).get_attribute("data-key")
    visit.open(f"?collection=album&photo={key}")
    visit.page.locator(".found:not([aria-busy])").get_by_text("1 more copy").click()
    visit.page.get_by_role("heading", name="3 matches").wait_for()
    assert visit.page.locator(".card.proven").count() == 2
    assert visit.page.locator(".card.proven .copies li").inner_text().split("/")[0] in ("harbour", "market")
    visit.audit()
