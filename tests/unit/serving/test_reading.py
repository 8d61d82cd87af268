"""What anybody may read of a service: collections, photos, searches, proofs."""

from __future__ import annotations

import csv
import io
import json
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from photo_factory import picture, save, view
from resight.collection import open_collection
from resight.serving.photo_keys import key_of
from resight.types import Box
from service_process import events, serving

AT = "/v1/collections/classic"


@pytest.fixture
def photo(world):
    return (world.photos.folder / "001-1.jpg").read_bytes()


def names(reply):
    return [result["id"] for result in reply.json["results"]]


def test_collections_and_what_they_hold(service):
    assert [one["name"] for one in service.get("/v1/collections").json] == ["classic", "hybrid"]
    info = service.get("/v1/collections/hybrid").json
    assert (info["photos"], info["recipe"], info["proof"], info["read_only"]) == (24, "hybrid", True, True)
    assert {"classic", "hybrid"} <= {recipe["name"] for recipe in info["recipes"]}
    assert "backbone" not in info["parameters"], "a path of the machine"
    assert service.get("/v1/collections/none").status == 404


def test_photos_in_pages_by_name_are_all_photos_once(service, world):
    found, cursor = [], ""
    while cursor is not None:
        page = service.get(f"{AT}/photos?order=name&limit=7{f'&cursor={cursor}' if cursor else ''}").json
        assert page["total"] == 24
        found += [photo["id"] for photo in page["photos"]]
        cursor = page["next"]
    assert found == sorted(world.photos.names)
    one = service.get(f"{AT}/photos/{key_of('001-1.jpg')}").json
    assert (one["id"], one["width"], one["height"], one["folder"]) == ("001-1.jpg", 320, 240, "")


@pytest.mark.parametrize(
    ("filters", "count"),
    [("", 24), ("min_side=321", 0), ("max_side=320", 24), ("folder=none", 0), ("from=2020", 0), ("tag=x", 0)],
)
def test_filters_and_their_counts_agree(service, filters, count):
    assert service.get(f"{AT}/photos?{filters}").json["total"] == count
    facets = service.get(f"{AT}/facets?{filters}").json
    assert facets["total"] == sum(one["count"] for one in facets["folders"]) == count


@pytest.mark.parametrize("recipe", ["classic", "hybrid"])
def test_an_uploaded_photo_finds_what_the_command_line_finds(service, world, tmp_path, recipe):
    unseen = save(tmp_path / "unseen.jpg", view(picture(1), 77))
    expected = open_collection(world.path(recipe)).search(unseen, top=8)
    reply = service.post(
        f"/v1/collections/{recipe}/search", form=[("file", ("a.jpg", unseen.read_bytes())), ("top", 8)]
    )
    assert reply.status == 200, reply
    assert names(reply) == [result.id for result in expected.results]
    scores = [result["score"] for result in reply.json["results"]]
    np.testing.assert_allclose(scores, [result.score for result in expected.results], atol=2e-4)
    assert [result["match"] == "proven" for result in reply.json["results"]] == [r.match for r in expected.results]
    assert reply.json["confident"]
    assert "needed" in reply.json["sentence"]


def test_a_photo_of_the_collection_with_a_box_finds_what_the_library_finds(service, world):
    box = Box(40, 30, 200, 150)
    expected = open_collection(world.path("classic")).search("001-1.jpg", box, top=5)
    form = [("photo", key_of("001-1.jpg")), ("box", "40,30,240,180"), ("top", 5)]
    reply = service.post(f"{AT}/search", form=form)
    assert names(reply) == [result.id for result in expected.results]
    assert reply.json["query"]["boxes"] == [[40, 30, 240, 180]]


def test_an_upload_is_kept_and_pages_of_its_results_join(service, photo):
    first = service.post(f"{AT}/search", form=[("file", ("x", photo)), ("top", 3)]).json
    token = first["query"]["token"]
    second = service.post(f"{AT}/search", form=[("query", token), ("top", 3), ("cursor", first["next"])]).json
    whole = service.post(f"{AT}/search", form=[("query", token), ("top", 6)]).json
    assert [r["id"] for r in first["results"] + second["results"]] == [r["id"] for r in whole["results"]]
    assert [r["rank"] for r in second["results"]] == [4, 5, 6]
    assert service.post(f"{AT}/search", form=[("query", "guessed")]).status == 404


def test_an_upload_can_be_seen_again_by_who_has_its_token(service, photo):
    token = service.post(f"{AT}/search", form=[("file", ("x", photo)), ("top", 1)]).json["query"]["token"]
    assert service.get(f"{AT}/queries/{token}").json["width"] == 320
    small = service.get(f"{AT}/queries/{token}/thumbnail?size=160")
    assert max(Image.open(io.BytesIO(small.body)).size) == 160
    for path in (f"{AT}/queries/guessed", f"{AT}/queries/guessed/thumbnail"):
        assert "upload the photo again" in service.get(path).detail


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream"])
def test_a_form_without_scripts_is_answered_with_a_page(service, photo, accept):
    form = [("file", ("x", photo)), ("collection", "classic")]
    reply = service.post("/search.html", form=form, headers={"Accept": accept})
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"001-0.jpg" in reply.body
    assert service.post("/search.html", form=[*form[:1], ("collection", "<script>")]).status == 404


def test_two_boxes_find_the_things_in_both(service, tmp_path):
    left, right = view(picture(1), 5), view(picture(4), 6)
    both = save(tmp_path / "both.png", np.hstack([left, right]))
    boxes = [("box", "0,0,320,240"), ("box", "320,0,640,240")]
    found = names(service.post(f"{AT}/search", form=[("file", ("b", both.read_bytes())), *boxes, ("top", 8)]))
    assert {"001-0.jpg", "004-0.jpg"} <= set(found)


def test_examples_add_what_they_show_and_take_away_what_they_must_not(service):
    ask = [("photo", key_of("001-1.jpg")), ("top", 4)]
    both = service.post(f"{AT}/search", form=[*ask, ("also", key_of("004-1.jpg"))]).json
    found = {result["id"]: result["match"] for result in both["results"]}
    assert set(found) == {"001-0.jpg", "001-2.jpg", "004-0.jpg", "004-2.jpg"}
    assert set(found.values()) == {"proven"}
    assert [result["rank"] for result in both["results"]] == [1, 2, 3, 4]
    finders = {result["id"][:3]: result["example"] for result in both["results"]}
    assert finders == {"001": None, "004": key_of("004-1.jpg")}
    less = names(
        service.post(f"{AT}/search", form=[*ask, ("also", key_of("004-1.jpg")), ("without", key_of("001-0.jpg"))])
    )
    assert not {"001-0.jpg", "001-2.jpg"} & set(less)
    assert {"004-0.jpg", "004-2.jpg"} <= set(less)
    assert service.post(f"{AT}/search", form=[*ask, ("also", "none")]).status == 404
    assert service.post(f"{AT}/search", form=[*ask, *[("without", key_of("004-1.jpg"))] * 5]).status == 400


def test_an_answer_has_an_address_as_json_and_as_csv(service):
    fields = [("photo", key_of("001-1.jpg")), ("box", "40,30,240,180"), ("box", "10,10,90,90"), ("top", 4),
              ("also", key_of("004-1.jpg")), ("without", key_of("004-0.jpg")), ("where", '{"max_side": 320}'),
              ("recipe", "classic"), ("options", '{"verify": 30}')]  # fmt: skip
    posted = service.post(f"{AT}/search", form=fields).json
    address = urllib.parse.urlencode(fields)
    plain = service.get(f"{AT}/search.json?{address}").json
    assert {**plain, "took_ms": 0} == {**posted, "took_ms": 0}
    table = service.get(f"{AT}/search.csv?{address}")
    for reply in (table, service.post(f"{AT}/search", form=fields)):
        assert reply.headers["ratelimit"].startswith('"search";r=')
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
    assert [(row["rank"], row["id"], row["key"]) for row in rows] == [
        (str(one["rank"]), one["id"], one["key"]) for one in posted["results"]
    ]
    assert [int(row["inliers"]) for row in rows] == [one["inliers"] for one in posted["results"]]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_text_that_a_spreadsheet_could_run_stands_behind_a_quote_in_csv_and_numbers_never(first):
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from resight.serving import models
    from resight.serving.routes.results import as_table

    results = [
        models.Result.model_construct(rank=1, id=f'{first}CALL("x",1)', score=-0.5, match=None, inliers=-1, key="k"),
        models.Result.model_construct(rank=2, id=f"a{first}1", score=1.5, match="none", inliers=None, key="l"),
    ]
    table = list(csv.reader(io.StringIO(as_table(results), newline="")))
    assert table[1:] == [
        ["1", f"""'{first}CALL("x",1)""", "-0.5", "", "-1", "k"],
        ["2", f"a{first}1", "1.5", "none", "", "l"],
    ]


def test_a_photo_named_like_a_formula_is_quoted_in_the_csv_of_a_search_and_nowhere_else(world, tmp_path):
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    collection, named = world.copy("classic", tmp_path), "=1+1.jpg"
    (tmp_path / "odd").mkdir()
    save(tmp_path / "odd" / named, np.asarray(Image.open(world.photos.folder / "001-1.jpg"))[8:, 8:])
    collection.add([tmp_path / "odd"])
    with serving(tmp_path / "log", collection.path, "--read-only") as own:
        ask = f"photo={key_of('001-1.jpg')}&top=25"
        found = own.get(f"{AT}/search.json?{ask}").json["results"]
        rows = list(csv.DictReader(io.StringIO(own.get(f"{AT}/search.csv?{ask}").body.decode(), newline="")))
    assert named in [one["id"] for one in found]
    assert [row["id"] for row in rows] == [f"'{named}" if one["id"] == named else one["id"] for one in found]
    assert [row["key"] for row in rows] == [one["key"] for one in found]
    assert [float(row["score"]) for row in rows] == [one["score"] for one in found]


def test_an_address_of_an_upload_holds_while_the_upload_is_kept(service, photo):
    token = service.post(f"{AT}/search", form=[("file", ("x", photo)), ("top", 3)]).json["query"]["token"]
    assert service.get(f"{AT}/search.json?query={token}&top=3").json["results"][0]["id"] == "001-1.jpg"
    for wrong, status in (("query=guessed", 404), ("", 422), ("photo=a&query=b", 422), ("photo=none&typo=1", 422)):
        assert service.get(f"{AT}/search.csv?{wrong}").status == status


@pytest.mark.parametrize("method", ["form", "address"])
def test_a_budget_ends_what_geometry_looks_at_and_the_answer_says_so(service, method):
    fields = [("photo", key_of("002-1.jpg")), ("top", 23), ("budget", 0)]
    if method == "form":
        answer = service.post(f"{AT}/search", form=fields).json
    else:
        answer = service.get(f"{AT}/search.json?{urllib.parse.urlencode(fields)}").json
    assert answer["sentence"].endswith("the budget was spent when geometry had looked at 20 photos")
    looked = [result["match"] is not None for result in answer["results"]]
    assert looked == [True] * 20 + [False] * 3
    assert answer["confident"]
    rich = service.post(f"{AT}/search", form=[*fields[:2], ("budget", 600_000)]).json
    assert "budget" not in rich["sentence"]
    assert all(result["inliers"] is not None for result in rich["results"])
    assert service.post(f"{AT}/search", form=[*fields[:2], ("budget", -1)]).status == 422


def test_where_leaves_only_photos_that_fit(service, photo):
    form = [("file", ("x", photo)), ("where", json.dumps({"min_side": 1000}))]
    assert service.post(f"{AT}/search", form=form).json["results"] == []
    form = [("file", ("x", photo)), ("where", json.dumps({"max_side": 320}))]
    assert service.post(f"{AT}/search", form=form).json["results"][0]["id"] == "001-1.jpg"


def test_events_tell_the_ranking_then_proofs_then_the_same_answer(service, photo):
    form = [("file", ("x", photo)), ("top", 5)]
    plain = service.post(f"{AT}/search", form=form).json
    told = events(service.post(f"{AT}/search", form=form, headers={"Accept": "text/event-stream"}).body)
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "ranking"
    assert kinds[-1] == "done"
    assert set(kinds[1:-1]) == {"proof"}
    assert all(result["match"] is None for result in told[0][1]["results"])
    proved = [result["id"] for kind, data in told if kind == "proof" for result in data["results"]]
    assert len(proved) == len(set(proved)), "told once"
    assert told[-1][1]["results"] == plain["results"]


def test_explain_tells_points_that_the_transform_carries_over(service):
    asked = urllib.parse.urlencode({"photo": key_of("001-1.jpg"), "result": key_of("001-2.jpg")})
    found = service.get(f"{AT}/explain?{asked}").json
    points, transform = np.array(found["inliers"]), np.array(found["transform"])
    mapped = np.column_stack([points[:, :2], np.ones(len(points))]) @ transform.T
    assert np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - points[:, 2:], axis=1).max() < 8
    assert len(points) == found["result"]["inliers"] >= 10
    assert len(found["outline"]) == 4
    assert "agree" in found["significance"]
    assert found["stages"]
    picture = service.get(f"{AT}/explain.png?{asked}")
    assert Image.open(io.BytesIO(picture.body)).width > 400


def test_explain_of_an_upload_with_a_box(service, photo):
    token = service.post(f"{AT}/search", form=[("file", ("x", photo)), ("box", "20,20,300,220")]).json["query"]["token"]
    asked = urllib.parse.urlencode({"query": token, "box": "20,20,300,220", "result": key_of("001-0.jpg")})
    found = service.get(f"{AT}/explain?{asked}").json
    assert found["result"]["match"] == "proven"
    assert found["query"]["boxes"] == [[20, 20, 300, 220]]
    assert service.get(f"{AT}/explain.png?{asked}").headers["content-type"] == "image/png"


def test_thumbnails_are_small_cached_and_without_metadata(service):
    at = f"{AT}/photos/{key_of('001-1.jpg')}"
    version = service.get(at).json["version"]
    first = service.get(f"{at}/thumbnail?size=160&v={version}")
    assert max(Image.open(io.BytesIO(first.body)).size) == 160
    assert not Image.open(io.BytesIO(first.body)).getexif()
    assert "immutable" in first.headers["cache-control"]
    assert "no-cache" in service.get(f"{at}/thumbnail?size=160").headers["cache-control"]
    again = service.get(f"{at}/thumbnail?size=160", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert service.get(f"{at}/thumbnail?size=161").status == 422


def test_neighbours_are_joined_by_proofs_and_have_places(service):
    found = service.get(f"{AT}/photos/{key_of('001-1.jpg')}/neighbours").json
    ids = [node["id"] for node in found["nodes"]]
    assert ids[0] == "001-1.jpg"
    joined = {frozenset((ids[e["a"]], ids[e["b"]])) for e in found["edges"] if e["inliers"]}
    assert {frozenset(("001-1.jpg", "001-0.jpg")), frozenset(("001-0.jpg", "001-2.jpg"))} <= joined
    assert all(0 <= node["x"] <= 1 and 0 <= node["y"] <= 1 for node in found["nodes"])
    assert found == service.get(f"{AT}/photos/{key_of('001-1.jpg')}/neighbours").json, "the same places again"
    similar = service.get(f"/v1/collections/hybrid/photos/{key_of('001-1.jpg')}/neighbours").json["edges"]
    assert all(edge["similarity"] is not None for edge in similar)


def test_a_service_that_only_reads_refuses_changes(service, photo):
    for reply in (
        service.post(f"{AT}/photos", form=[("file", ("x", photo))]),
        service.ask("DELETE", f"{AT}/photos/{key_of('001-1.jpg')}"),
        service.post(f"{AT}/jobs", body={"kind": "tune"}),
    ):
        assert reply.status == 403
        assert "read-only" in reply.detail
    assert service.get(f"{AT}/photos/{key_of('001-1.jpg')}/original").status == 403


def test_what_the_service_says_of_itself(service):
    assert service.get("/healthz").body == b"alive\n"
    assert service.get("/v1/version").json["scope"] == "admin"
    assert b"resight_searches_total" in service.get("/metrics").body
    policy = service.get("/v1/version").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in service.get("/v1/version", headers={"Origin": service.url}).headers
