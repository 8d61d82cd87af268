from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resight.errors import ArrayError, UsageError
from resight.types import Box
from resight.viz.html import picture, text
from resight.viz.pictures import encode_jpeg
from resight.viz.report import ReportPage, ReportQuery, ReportResult, render

VOID = {"meta", "link", "img", "br", "path", "circle"}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def jpeg(width=300, height=200, **options):
    buffer = io.BytesIO()
    Image.fromarray(noise(height, width)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


class Reader(HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self):
        return " ".join(" ".join(self.words).split())


def result(id="dir/a.jpg", score=12.5, match=True, **rest):
    return ReportResult(id, noise(30, 40), score, match, **rest)


def query(results=(), confident=False, **rest):
    return ReportQuery("query.jpg", noise(60, 80), results, confident, **rest)


def full_page(count=3):
    results = [
        result(f"dir/{i}.jpg", 50 - i, i < 2, caption=f"{50 - i} inliers", picture=jpeg(), evidence=(f"reason {i}",))
        for i in range(4)
    ]
    queries = [query(results, True, ap=0.75, note="a note", box=Box(10, 10, 30, 20)) for _ in range(count)]
    queries.append(query(ap=float("nan")))
    return ReportPage("Title", "Sub", [("photos", "27")], [("Figure one", jpeg())], queries)


def test_page_asks_for_nothing_outside_itself():
    page = render(full_page())
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    reader = Reader(page)
    for tag, attributes in reader.elements:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "action"):
            assert re.match(r"data:|#|$", attributes.get(name, "")), (tag, name)
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in reader.all("meta"))


def test_page_is_complete():
    reader = Reader(render(full_page()))
    words = reader.text()
    for expected in ("Title", "Sub", "photos 27", "Figure one", "reason 0", "reason 3", "50 inliers", "AP 75.0"):
        assert expected in words
    assert "2 matches a note" in words
    assert "No confident match" in words
    assert "AP none" in words
    assert "4 queries" in words
    assert all(image.get("alt") for image in reader.all("img"))
    assert words.count("no match") == 3 * (2 + 2 + 1)  # on the card, in the dialog and over the fold


def test_what_is_no_match_is_folded_and_small():
    """Matches come first; behind them the others wait, unless one of them is a right one that was missed."""

    def page(*results):
        html = render(ReportPage("t", queries=[query(results, any(r.match for r in results))]))
        details = Reader(html).all("details")
        return html, [("open" in attributes) for attributes in details]

    match, other = result("a", 90, True), result("b", 9, False)
    html, folds = page(other, match, result("c", 8, False))
    assert folds == [False]
    assert "2 more photos, no match" in html
    assert html.index(">a</bdi>") < html.index(">b</bdi>")
    assert page(match, result("c", 8, False, relevant=True))[1] == [True]
    html, folds = page(other)
    assert (folds, "results small" in html) == ([], True)
    assert page(match)[1] == []
    assert page(result("a", 9, None))[1] == []


def test_a_file_that_is_gone_is_said_in_words():
    gone = ReportQuery("q", None, [ReportResult("a", None, 9.0, True)], True, box=Box(0, 0, 5, 5))
    reader = Reader(render(ReportPage("t", queries=[gone])))
    assert reader.text().count("The file is gone or can no longer be read.") == 2
    assert reader.all("img") == []


def test_the_legend_stands_under_the_numbers():
    page = render(ReportPage("t", summary=[("photos", "3")], legend=["One <b>.", "Two."]))
    assert '<p class="legend">One &lt;b&gt;. Two.</p></header>' in page


def test_targets_exist_once():
    reader = Reader(render(full_page()))
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in reader.all("a")] + [b["popovertarget"] for b in reader.all("button")]
    assert targets
    assert set(targets) <= set(ids)


def test_each_picture_is_held_once():
    reader = Reader(render(full_page(1)))
    wide = [image for image in reader.all("img") if image["alt"].startswith("Matches between")]
    assert len(wide) == 4
    assert all(image["loading"] == "lazy" for image in wide)


def test_ids_cannot_write_html():
    nasty = '"><script>alert(1)</script><img src=x onerror="alert(2)">\u202egpj.exe\udcff\x00'
    page = ReportPage(
        nasty,
        nasty,
        [(nasty, nasty)],
        [(nasty, jpeg())],
        [
            ReportQuery(
                nasty,
                noise(9, 9),
                [result(nasty, caption=nasty, picture=jpeg(), evidence=(nasty,))] * 2,
                True,
                note=nasty,
            ),
            ReportQuery("other", noise(9, 9), []),
        ],
    )
    html = render(page)
    reader = Reader(html)
    assert reader.all("script") == []
    assert not any("onerror" in attributes for _, attributes in reader.elements)
    assert "\u202e" not in html
    assert "\x00" not in html
    html.encode("utf-8")
    assert "<script>alert(1)</script>" in reader.text()


def test_text_keeps_ordinary_letters():
    assert text("Zürich 東京 👨\u200d👩\u200d👧 a&b") == "Zürich 東京 👨\u200d👩\u200d👧 a&amp;b"
    assert text("a\u2066b\x1bc\udc80") == "a\ufffdb\ufffdc\ufffd"


def test_empty_page_and_empty_results():
    Reader(render(ReportPage("nothing")))
    words = Reader(render(ReportPage("t", queries=[query()]))).text()
    assert "No results." in words
    assert "No confident match" in words
    assert "closest photos" not in words


def test_without_thresholds_nothing_is_called_a_match():
    words = Reader(render(ReportPage("t", queries=[query([result(match=None)], None, ap=0.5)]))).text()
    assert "match" not in words.lower()


@pytest.mark.parametrize(("relevant", "sign"), [(True, "✓ right"), (False, "✗ wrong"), ("junk", "○ junk")])
def test_judgements_are_words_as_well_as_colours(relevant, sign):
    assert sign in Reader(render(ReportPage("t", queries=[query([result(relevant=relevant)], True)]))).text()


def test_best_match_is_shown_open_and_a_failed_one_is_not():
    def proofs(*results):
        confident = any(r.match for r in results)
        page = render(ReportPage("t", queries=[query(results, confident)]))
        return [a["id"] for a in Reader(page).all("figure") if a.get("class") == "proof"]

    first, second = result("a", 9, False, picture=jpeg()), result("b", 8, True, picture=jpeg())
    assert proofs(first) == []
    assert proofs(first, second) == ["q1r2"]
    assert proofs(result("a", 9, True), second) == ["q1r2"]


def test_box_is_in_per_cent_of_the_original():
    page = render(ReportPage("t", queries=[query(box=Box(100, 150, 200, 75), size=(400, 300))]))
    style = next(a["style"] for a in Reader(page).all("i"))
    assert style == "left:25.00%;top:50.00%;width:50.00%;height:25.00%"
    own = render(ReportPage("t", queries=[query(box=Box(40, 0, 40, 60))]))
    assert "left:50.00%;top:0.00%;width:50.00%;height:100.00%" in own


def test_box_of_encoded_pixels_needs_a_size():
    with pytest.raises(UsageError, match="size of the original"):
        render(ReportPage("t", queries=[ReportQuery("q", jpeg(), [], box=Box(1, 1, 5, 5))]))


def decoded(tag):
    attributes = Reader(tag).all("img")[0]
    kind, data = attributes["src"].split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (int(attributes["width"]), int(attributes["height"]))
    assert kind == f"data:image/{image.format.lower()}"
    return image


def test_pictures_are_bounded():
    assert decoded(picture(noise(900, 1200), "x", 240)).size == (240, 180)
    assert decoded(picture(noise(3, 2), "x", 240)).size == (2, 3)
    assert decoded(picture(noise(1, 4000), "x", 240)).size == (240, 1)
    assert decoded(picture(jpeg(1200, 900), "x", 240)).size == (240, 180)
    small = jpeg(100, 50)
    assert base64.b64encode(small).decode() in picture(small, "x", 240)


def test_encoded_photos_are_turned_upright_and_lose_their_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    image = decoded(picture(jpeg(80, 40, exif=exif), "x", 240))
    assert image.size == (40, 80)
    assert not image.getexif()


@pytest.mark.parametrize(
    "told", [{"comment": b"secret-place"}, {"xmp": b"<x>secret-place</x>"}], ids=["comment", "xmp"]
)
def test_other_metadata_is_left_out_too(told):
    data = jpeg(80, 40, **told)
    assert b"secret-place" in data
    held = Reader(picture(data, "x", 240)).all("img")[0]["src"].split(",")[1]
    assert b"secret-place" not in base64.b64decode(held)


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(20), jpeg()[:300], b"\x89PNG\r\n\x1a\n"])
def test_unreadable_pictures_are_refused(data):
    with pytest.raises(UsageError, match="no readable"):
        picture(data, "x", 100)


def test_png_and_webp_are_kept():
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(noise(20, 30)).save(buffer, kind)
        assert decoded(picture(buffer.getvalue(), "x", 240)).format == kind


def test_values_that_contradict_are_refused():
    with pytest.raises(UsageError, match="score nan"):
        result(score=float("nan"))
    with pytest.raises(UsageError, match="perhaps"):
        result(relevant="perhaps")
    with pytest.raises(UsageError, match="confident, but no result"):
        query([result(match=False)], True)
    with pytest.raises(UsageError, match="not confident, but a result"):
        query([result()], False)
    with pytest.raises(ArrayError, match="image is float64"):
        render(ReportPage("t", queries=[query([ReportResult("a", np.zeros((2, 2, 3)), 1.0)], None)]))


def test_weight_of_a_demo_page_is_bounded():
    proof = encode_jpeg(Image.fromarray(noise(112, 300)).resize((900, 336)), 900)
    shown = [result(str(i), 9 - i, True, picture=proof if i < 3 else None) for i in range(10)]
    photo = encode_jpeg(Image.fromarray(noise(60, 80)).resize((240, 180)), 240)
    shown = [ReportResult(r.id, photo, r.score, r.match, picture=r.picture) for r in shown]
    assert len(render(ReportPage("t", queries=[query(shown, True)] * 25))) < 25e6


def test_more_figures_follow_the_queries():
    buffer = io.BytesIO()
    Image.new("RGB", (300, 100)).save(buffer, "PNG")
    page = render(ReportPage("t", figures=[("first", buffer.getvalue())], more=[("last", buffer.getvalue())],
                             queries=[ReportQuery("the question", None, [])]))  # fmt: skip
    assert page.index("<figcaption>first") < page.index("the question") < page.index("<figcaption>last")
    assert page.count('<figure class="wide">') == 2
