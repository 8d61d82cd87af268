"""Browsing, duplicates, neighbours, jobs, settings, keys, and what is shown when something fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from photo_factory import picture, save

SEARCH = re.compile(r"/search$")  # the request, not the module of the page


def test_browsing_by_month_year_and_folder(visit):
    visit.open("?view=photos&collection=album")
    visit.page.get_by_role("heading", name="38 photos").wait_for()
    visit.page.locator(".tile img").first.wait_for()
    months = visit.page.locator("h2.month").all_inner_texts()
    assert months[0] == "December 2021"
    assert len(months) == 36
    visit.audit()
    visit.shot("photos")
    visit.page.get_by_role("button", name=re.compile("^2020")).click()
    visit.page.get_by_role("heading", name="12 photos").wait_for()
    assert "from=2020&to=2021" in visit.page.url
    if not visit.page.get_by_label("Folder").is_visible():
        visit.page.locator("summary", has_text="Filters").click()
    visit.page.get_by_label("Folder").select_option("market")
    visit.page.wait_for_url(re.compile("folder=market"))
    visit.page.locator("h1", has_text=re.compile("^4 photos")).wait_for()
    visit.audit()
    visit.shot("filtered")


def test_filter_is_part_of_a_search(visit):
    visit.open("?view=photos&collection=album&order=name")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("dialog").get_by_role("link", name="Search with this").click()
    visit.page.locator(".found:not([aria-busy]) .card").first.wait_for()
    every = visit.page.locator(".card").count()
    visit.page.locator("summary", has_text="Filters").click()
    visit.page.get_by_label("Folder").select_option("museum/ground floor")
    visit.page.wait_for_url(re.compile("folder="))
    fewer = """every => !document.querySelector(".found[aria-busy]")
      && document.querySelectorAll(".card:not(.ghost)").length < every"""
    visit.page.wait_for_function(fewer, arg=every)
    ids = visit.page.locator(".card .name").evaluate_all("names => names.map(name => name.title)")
    assert ids
    assert all(id_.startswith("museum/ground floor/") for id_ in ids)


def test_photo_dialog_steps_by_keys(visit):
    visit.open("?view=photos&collection=album&order=name")
    visit.page.locator(".tile .frame").nth(2).click()
    dialog = visit.page.get_by_role("dialog")
    title = dialog.locator("h2")
    first = title.inner_text()
    visit.audit()
    visit.shot("photo")
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function("was => document.querySelector('#photo-title')?.innerText !== was", arg=first)
    visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_function("was => document.querySelector('#photo-title')?.innerText === was", arg=first)
    visit.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


@pytest.mark.slow  # thousands of pictures pass through the test
def test_pages_far_away_give_their_elements_back(visiting, server):
    """A hundred thousand photos, answered by a route of the browser: the elements of the page stay few."""
    visit = visiting(server)

    def answer(route):
        after = int(re.search(r"cursor=(\d+)", route.request.url)[1]) if "cursor=" in route.request.url else 0
        same = {"width": 320, "height": 240, "taken_at": None, "folder": "", "tags": [], "version": "0"}
        photos = [{"key": f"k{i}", "id": f"photo-{i}.jpg", **same} for i in range(after, after + 120)]
        route.fulfill(json={"photos": photos, "next": str(after + 120), "total": 100_000})

    visit.page.route(re.compile(r"/photos\?"), answer)
    pixel = "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='3'/>"
    visit.page.route(re.compile("/thumbnail"), lambda route: route.fulfill(body=pixel, content_type="image/svg+xml"))
    visit.open("?view=photos")
    visit.page.get_by_role("heading", name="100,000 photos").wait_for()
    for pages in range(2, 16):
        visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        visit.page.wait_for_function("pages => document.querySelectorAll('.page').length >= pages", arg=pages)
    visit.page.wait_for_function("() => document.querySelectorAll('.tile').length < 1500")
    height = visit.page.evaluate("document.body.scrollHeight")
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.locator("[data-key=k0] img").wait_for()
    assert visit.page.evaluate("document.body.scrollHeight") == pytest.approx(height, rel=0.02)


def test_exact_duplicates_are_decided_and_saved(visit):
    visit.open("?view=duplicates&collection=album")
    groups = visit.page.locator(".group")
    groups.first.wait_for()
    assert groups.count() == 2
    visit.audit()
    visit.shot("duplicates")
    groups.first.get_by_role("radio").nth(1).check()
    gone = groups.first.locator(".name").first.get_attribute("title")
    groups.first.get_by_role("button", name="Keep the chosen one").click()
    groups.nth(1).get_by_role("button", name="Not duplicates").click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Save the list (1)").click()
    assert Path(download.value.path()).read_text().split("\n") == [gone, ""]
    visit.page.reload()
    groups.first.wait_for()
    assert visit.page.locator(".group.decided").nth(1).is_visible()  # decisions are remembered
    groups.first.get_by_role("button", name="Undo").click()
    assert visit.page.locator(".group.decided").count() == 1


def test_neighbours_as_picture_and_list(visit):
    visit.open("?view=photos&order=name")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("dialog").get_by_role("link", name="Neighbours").click()
    visit.page.locator(".net .node").nth(1).wait_for()
    assert visit.page.locator(".edge.proven").count() > 1  # one is the sample of the legend
    visit.audit()
    visit.shot("neighbours")
    visit.page.locator(".list a").first.click()
    visit.page.locator(".match").first.wait_for(state="attached")
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("dialog").wait_for(state="detached")
    visit.page.locator(".node:not(.centre)").first.focus()
    before = visit.page.locator("h1").inner_text()
    visit.page.keyboard.press("Enter")
    other = "was => document.querySelector('h1')?.innerText !== was && document.querySelector('.net')"
    visit.page.wait_for_function(other, arg=before)


def test_photos_are_added_by_a_job_and_found(own_server, visiting, tmp_path):
    visit = visiting(own_server())
    new = save(tmp_path / "a new thing.jpg", picture(555))
    visit.open("?view=jobs")
    visit.page.get_by_role("heading", name="No jobs").wait_for()
    visit.audit()
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Choose photos").click()
    chooser.value.set_files(new)
    visit.page.locator(".job").wait_for()
    visit.shot("job")
    visit.page.locator(".job.done").wait_for()
    visit.audit()
    assert visit.page.locator("#live").inner_text() == "Add photos: Done"
    visit.open()
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Choose a photo").click()
    chooser.value.set_files(new)
    visit.page.get_by_role("heading", name="1 match").wait_for()


def test_near_duplicates_are_looked_for_by_a_job(own_server, visiting):
    visit = visiting(own_server())
    visit.open("?view=duplicates&kind=near")
    visit.page.get_by_role("button", name="Look for them").click()
    visit.page.locator(".job.done").wait_for()
    visit.open("?view=duplicates&kind=near")
    visit.page.locator(".group, .state h2", has_text=re.compile("photos|No duplicates")).first.wait_for()
    visit.audit()


def test_photo_is_removed_after_a_question(own_server, visiting):
    visit = visiting(own_server())
    visit.open("?view=photos&order=name")
    name = visit.page.locator(".tile .frame").first.get_attribute("aria-label")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("button", name="Remove from the collection").click()
    visit.page.get_by_role("dialog").last.get_by_role("button", name="Cancel").click()
    assert visit.page.locator("dialog.photo").is_visible()
    visit.page.get_by_role("button", name="Remove from the collection").click()
    visit.audit()
    visit.page.get_by_role("dialog").last.get_by_role("button", name="Remove from the collection").click()
    visit.page.wait_for_function("() => !document.querySelector('dialog')")
    visit.open("?view=jobs")
    visit.page.locator(".job.done").wait_for()
    visit.open("?view=photos&order=name")
    visit.page.locator(".tile .frame").first.wait_for()
    assert visit.page.locator(".tile .frame").first.get_attribute("aria-label") != name


def test_read_only_server_offers_nothing_that_changes(own_server, visiting):
    visit = visiting(own_server("--read-only"))
    visit.open("?view=jobs")
    visit.page.get_by_text("This server is read-only").wait_for()
    visit.open("?view=photos")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("dialog").get_by_role("link", name="Search with this").wait_for()
    assert not visit.page.get_by_role("button", name="Remove from the collection").count()


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_settings_keep_language_and_appearance(visiting, server, language):
    visit = visiting(server, locale=language, color_scheme="light")
    visit.open()
    german = language == "de-DE"
    visit.page.get_by_role("heading", name="Jedes Foto" if german else "Find every photo").wait_for()
    assert visit.page.evaluate("document.documentElement.lang") == language[:2]
    visit.page.get_by_role("button", name="Einstellungen" if german else "Settings").click()
    visit.audit()
    visit.shot("settings")
    visit.page.get_by_role("radio", name="Dunkel" if german else "Dark").check()
    visit.page.get_by_role("radio", name="English" if german else "Deutsch").click()
    visit.page.get_by_role("heading", name="Find every photo" if german else "Jedes Foto").wait_for()
    visit.page.reload()
    visit.page.get_by_role("heading", name="Find every photo" if german else "Jedes Foto").wait_for()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 22)"
    visit.page.locator(".strip img").first.wait_for()
    visit.audit()
    visit.shot("dark")


def test_collections_are_switched(visit):
    visit.open()
    visit.page.get_by_label("Collection").select_option("album")
    visit.page.get_by_text("38 photos in album").wait_for()
    assert "collection=album" in visit.page.url
    visit.page.get_by_role("link", name="Photos").click()
    visit.page.get_by_role("heading", name="38 photos").wait_for()


def test_page_at_360_pixels_does_not_scroll_sideways(visiting, server):
    visit = visiting(server, "phone")
    visit.page.set_viewport_size({"width": 360, "height": 740})
    for query in ("", "?view=photos&collection=album", "?view=duplicates&collection=album", "?view=jobs"):
        visit.open(query)
        visit.page.locator("h1").wait_for()
        visit.page.wait_for_timeout(300)
        visit.audit()


def test_whole_search_by_keyboard_alone(visiting, server):
    """From the address bar: skip link, tabs, a photo of the strip, a result, its proof, and back to the result."""
    visit = visiting(server)
    visit.open()
    visit.page.locator(".strip a").first.wait_for()
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    visit.page.keyboard.press("Enter")
    focus_on(visit, ".strip a")
    visit.page.keyboard.press("Enter")
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()
    focus_on(visit, ".card .frame")
    here = visit.page.evaluate("document.activeElement.closest('li').dataset.key")
    visit.page.keyboard.press("Enter")
    visit.page.locator(".match").first.wait_for(state="attached")
    assert visit.page.evaluate("document.activeElement.closest('dialog') !== null")
    focus_on(visit, ".stage")
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("dialog").wait_for(state="detached")
    assert visit.page.evaluate("document.activeElement.closest('li')?.dataset.key") == here


def focus_on(visit, selector):
    """Press Tab until the focus is there; it must be seen on the way."""
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        seen = """() => {
          const here = document.activeElement;
          const own = here === document.body || here.matches(".segments input"); // its label is outlined
          return own || getComputedStyle(here).outlineStyle !== "none";
        }"""
        outline = visit.page.evaluate(seen)
        assert outline, visit.page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    raise AssertionError(f"Tab does not reach {selector}")


def test_server_that_is_gone_and_comes_back(own_server, visiting):
    server = own_server()
    visit = visiting(server)
    visit.open()
    visit.page.locator(".strip a").first.wait_for()
    visit.page.route(SEARCH, lambda route: route.abort())
    visit.page.locator(".strip a").first.click()
    visit.page.get_by_role("alert").get_by_text("No connection").wait_for()
    visit.audit()
    visit.shot("offline")
    visit.page.unroute(SEARCH)
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()
    visit.page.context.set_offline(True)
    visit.page.locator("#offline", has_text="cannot be reached").wait_for()
    visit.page.context.set_offline(False)
    visit.problems.clear()


def test_busy_server_is_asked_again(visiting, server):
    visit = visiting(server)
    refused = []

    def busy(route):
        if refused:
            route.continue_()
            return
        refused.append(route)
        problem = {"title": "Too Many Requests", "status": 429, "detail": "too many searches wait"}
        route.fulfill(status=429, json=problem, headers={"Retry-After": "1"})

    visit.page.route(SEARCH, busy)
    visit.open()
    visit.page.locator(".strip a").first.click()
    visit.page.get_by_role("heading", name="The server is busy").wait_for()
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()
    visit.problems.clear()


def test_search_is_cancelled(visiting, server):
    visit = visiting(server)
    visit.page.route(SEARCH, lambda _: None)  # never answered
    visit.open()
    visit.page.locator(".strip a").first.click()
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.get_by_role("heading", name="Search cancelled").wait_for()
    visit.audit()
    visit.page.unroute_all(behavior="ignoreErrors")
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.locator(".found:not([aria-busy]) .card.proven").first.wait_for()


def test_unknown_address_and_expired_upload_say_so(visit):
    visit.open("?query=nothing-is-kept-under-this")
    visit.page.get_by_role("heading", name="The uploaded photo has expired").wait_for()
    visit.audit()
    visit.shot("expired")
    visit.open("?collection=nowhere")
    visit.page.get_by_role("alert").wait_for()
    visit.problems.clear()


def test_tags_are_given_shown_filtered_by_and_taken_away(own_server, visiting):
    visit = visiting(own_server())
    visit.open("?view=photos&order=name")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("textbox", name="New tag").fill("beach <b>")
    visit.page.get_by_role("textbox", name="New tag").press("Enter")
    visit.page.get_by_role("link", name="beach <b>").wait_for(timeout=90_000)  # a job, in a process of its own
    visit.audit()
    visit.shot("tags")
    visit.page.get_by_role("link", name="beach <b>").click()
    visit.page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
    visit.page.locator(".tile .frame").first.click()
    visit.page.get_by_role("button", name="Remove tag beach <b>").click()
    visit.page.wait_for_function("() => !document.querySelector('.tag')", timeout=90_000)


def test_tags_are_only_shown_where_nothing_may_be_changed(own_server, visiting):
    visit = visiting(own_server("--read-only"))
    visit.open("?view=photos&order=name")
    visit.page.locator(".tile .frame").first.click()
    visit.page.locator("dialog.photo .facts").wait_for()
    assert visit.page.get_by_role("textbox", name="New tag").count() == 0
