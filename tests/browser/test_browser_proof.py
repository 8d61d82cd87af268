"""The proof of a result: both photos, lines, outline, one warped onto the other, zoom and pan, keys."""

from __future__ import annotations

import re

import numpy as np
import pytest

# Where points of both photos stand on the screen, as the styles of the page put them: 3 x 3 matrices, rows.
PLACES = """() => [...document.querySelectorAll(".stage .photo")].map((image) => {
  const m = new DOMMatrix(getComputedStyle(image).transform), pane = image.parentElement.getBoundingClientRect();
  return [[m.m11, m.m21, m.m41], [m.m12, m.m22, m.m42], [m.m14, m.m24, m.m44]].concat([[pane.x, pane.y, 0]]);
})"""


def through(matrix, points):
    """Points (n, 2) through a homography (3, 3)."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ np.asarray(matrix).T
    return mapped[:, :2] / mapped[:, 2:]


def places(visit):
    """The matrix of both photos, and the corner of their panes."""
    found = [np.array(rows) for rows in visit.page.evaluate(PLACES)]
    return [(rows[:3], rows[3, :2]) for rows in found]


@pytest.fixture
def proof(visit, world):
    """The proof of the second match of the first photo, and what the server says of it."""
    visit.open()
    visit.page.locator(".strip a").first.click()
    visit.page.locator(".found:not([aria-busy]) .card.proven").nth(1).wait_for()
    with visit.page.expect_response(re.compile("/explain")) as answer:
        visit.page.locator(".card.proven .frame").nth(1).click()
    visit.page.get_by_role("dialog").wait_for()
    visit.page.locator(".match").first.wait_for(state="attached")
    return visit, answer.value.json()


def test_lines_join_the_points_that_the_server_names(proof):
    visit, said = proof
    lines = visit.page.locator(".match").evaluate_all(
        "lines => lines.map(line => ['x1', 'y1', 'x2', 'y2'].map(name => Number(line.getAttribute(name))))"
    )
    stage = visit.page.locator(".stage").bounding_box()
    inliers = np.array(said["inliers"])
    ends = [through(matrix, inliers[:, 2 * i : 2 * i + 2]) + corner for i, (matrix, corner) in enumerate(places(visit))]
    expected = np.column_stack(ends) - [stage["x"], stage["y"]] * 2
    assert len(lines) == len(inliers)
    np.testing.assert_allclose(sorted(map(tuple, lines)), sorted(map(tuple, expected)), atol=1.5)
    assert visit.page.locator(".found .outline").count() == 1 if said["outline"] else True
    visit.audit()
    visit.shot("proof")


def test_result_is_warped_onto_the_query_by_the_transform(proof):
    visit, said = proof
    visit.page.get_by_role("radio", name="One on the other").check()
    (query, _), (result, _) = places(visit)
    inliers = np.array(said["inliers"])
    there, back = through(query, inliers[:, :2]), through(result, through(said["transform"], inliers[:, :2]))
    np.testing.assert_allclose(back, there, atol=0.5)
    visit.audit()
    visit.shot("compare")


def test_slider_and_blink_by_keyboard(proof):
    visit, _ = proof
    visit.page.get_by_role("radio", name="One on the other").check()
    slider = visit.page.get_by_label("Query | result")
    slider.focus()
    visit.page.keyboard.press("Home")
    assert (
        visit.page.evaluate("getComputedStyle(document.querySelector('.pane.found')).clipPath")
        == "inset(0px 0px 0px 0%)"
    )
    visit.page.keyboard.press("End")
    assert (
        visit.page.evaluate("getComputedStyle(document.querySelector('.pane.found')).clipPath")
        == "inset(0px 0px 0px 100%)"
    )
    visit.page.get_by_role("button", name="Blink").click()
    visit.page.locator(".stage.off").wait_for()
    visit.page.locator(".stage:not(.off)").wait_for()


def test_zoom_and_pan_move_both_photos(proof):
    visit, said = proof
    before = places(visit)
    visit.page.locator(".stage").focus()
    for _ in range(6):
        visit.page.keyboard.press("+")
    zoomed = places(visit)
    assert [now[0][0, 0] / was[0][0, 0] for was, now in zip(before, zoomed, strict=True)] == pytest.approx(
        [1.25**6] * 2
    )
    visit.page.keyboard.press("ArrowRight")
    moved = places(visit)
    assert all(now[0][0, 2] < was[0][0, 2] for was, now in zip(zoomed, moved, strict=True))
    centre = visit.page.locator(".pane").nth(0).bounding_box()
    middle = np.array([[centre["width"] / 2, centre["height"] / 2]])
    seen = [through(np.linalg.inv(matrix), middle) for matrix, _ in moved]
    np.testing.assert_allclose(through(said["transform"], seen[0]), seen[1], atol=2)
    visit.shot("zoomed")
    visit.page.keyboard.press("0")
    np.testing.assert_allclose(places(visit)[0][0], before[0][0])


def test_wheel_zooms_about_the_pointer(visiting, server):
    visit = visiting(server)
    visit.open()
    visit.page.locator(".strip a").first.click()
    visit.page.locator(".found:not([aria-busy]) .card.proven .frame").nth(1).click()
    visit.page.locator(".match").first.wait_for(state="attached")
    pane = visit.page.locator(".pane").first.bounding_box()
    at = np.array([[pane["width"] * 0.6, pane["height"] * 0.55]])
    before = through(np.linalg.inv(places(visit)[0][0]), at)
    visit.page.mouse.move(pane["x"] + at[0, 0], pane["y"] + at[0, 1])
    visit.page.mouse.wheel(0, -600)
    visit.page.wait_for_function("document.querySelector('.stage .photo').style.transform !== ''")
    visit.page.wait_for_timeout(100)
    np.testing.assert_allclose(through(np.linalg.inv(places(visit)[0][0]), at), before, atol=1.5)


def test_next_result_escape_and_focus(proof):
    visit, _ = proof
    first = visit.page.locator("#proof-title").inner_text()
    visit.page.keyboard.press("p")
    visit.page.wait_for_function("was => document.getElementById('proof-title')?.innerText !== was", arg=first)
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("dialog").wait_for(state="detached")
    visit.page.wait_for_url(lambda url: "result=" not in url)
    visit.page.go_back()
    visit.page.get_by_role("dialog").wait_for()


def test_address_of_a_proof_opens_it(proof, visiting):
    visit, _ = proof
    title = visit.page.locator("#proof-title").inner_text()
    again = visiting(visit.server, visit.size)
    again.page.goto(visit.page.url)
    again.page.locator(".match").first.wait_for(state="attached")
    assert again.page.locator("#proof-title").inner_text() == title


def test_search_with_the_result(proof):
    visit, _ = proof
    title = visit.page.locator("#proof-title").inner_text()
    visit.page.get_by_role("dialog").get_by_role("link", name="Search with this").click()
    visit.page.get_by_role("dialog").wait_for(state="detached")
    visit.page.locator(".known .name", has_text=title).wait_for()
