"""What the page needs of the service: its files, and uploaded queries to show again."""

from __future__ import annotations

import gzip
import io

import pytest
from PIL import Image

from photo_factory import HEIGHT, WIDTH
from resight.serving.routes.page import page_files

AT = "/v1/collections/classic"


@pytest.fixture
def token(service, world):
    content = (world.photos.folder / "001-1.jpg").read_bytes()
    return service.post(f"{AT}/search", form=[("file", ("q.jpg", content))]).json["query"]["token"]


def test_files_are_packed_for_who_takes_that_and_kept_by_their_tag(service):
    plain = service.get("/page/main.js")
    packed = service.get("/page/main.js", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == plain.body == page_files()["main.js"].content
    known = service.get("/page/main.js", headers={"If-None-Match": plain.headers["etag"]})
    assert (known.status, known.body) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "..%2Fapp.py", "app.py", ""])
def test_only_files_of_the_page_are_given_out(service, name):
    assert service.get(f"/page/{name}").status == 404


def test_uploaded_query_can_be_shown_again(service, token):
    info = service.get(f"{AT}/queries/{token}").json
    assert info == {"token": token, "key": None, "width": WIDTH, "height": HEIGHT, "boxes": []}
    small = service.get(f"{AT}/queries/{token}/thumbnail?size=160")
    assert small.headers["content-type"] == "image/jpeg"
    assert small.headers["cache-control"].startswith("private")
    assert Image.open(io.BytesIO(small.body)).size == (160, 120)


@pytest.mark.parametrize("end", ["", "/thumbnail"])
def test_unknown_query_and_collection_are_not_there(service, token, end):
    assert service.get(f"{AT}/queries/unknown{end}").status == 404
    assert service.get(f"/v1/collections/none/queries/{token}{end}").status == 404
