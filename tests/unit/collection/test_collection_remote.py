"""The whole way with a collection in a bucket: the same answers as on a disk, for Python and for the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from photo_factory import SMALL, make_photos
from resight.collection import create_collection, open_collection
from resight.collection.check import check_collection, repair_collection
from resight.store import remote, s3
from resight.store.folder import collection_folder
from s3_server import BUCKET, KEY, SECRET, serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
SETTINGS = ("--set", "words=64", "--set", "count=60", "--set", "enlarge_below=0")


@pytest.fixture(scope="module")
def server():
    with serving() as environment:
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield environment


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_VIEWS", {})
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    base = tmp_path_factory.mktemp("photos")
    return make_photos(base / "photos", objects=4, views=2), make_photos(base / "more", objects=1, views=2, first=9)


def answers(collection):
    found = [collection.search(id_, top=5).results for id_ in sorted(collection.ids)]
    return [[(r.id, r.score, r.inliers, r.match) for r in results] for results in found]


def command(*arguments, **environment):
    line = [sys.executable, "-c", "from resight.cli import main; main()", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def told(*arguments):
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_answers_are_those_of_a_local_collection(bucket, photos, tmp_path, monkeypatch):
    first, more = photos
    made = [create_collection(where, "classic", SMALL) for where in (tmp_path / "c.resight", f"{bucket}/c.resight")]
    for collection in made:
        assert collection.add([first.folder]).added == 8
        collection.add([more.folder])
        assert collection.remove(["000-1.jpg"]) == 1
    local, there = made
    assert answers(there) == answers(local)
    assert there.info().photos == 9
    monkeypatch.setattr(remote, "_VIEWS", {})
    again = open_collection(f"{bucket}/c.resight")
    assert answers(again) == answers(local)
    assert again.snapshot.finished
    assert all(finding.ok for finding in check_collection(f"{bucket}/c.resight"))


def test_a_damaged_artifact_is_made_again(bucket, photos, monkeypatch):
    where = f"{bucket}/c.resight"
    collection = create_collection(where, "classic", SMALL)
    collection.add([photos[0].folder])
    expected = answers(collection)
    listed = json.loads(s3.bucket_of(where).get("artifacts.json").content)["files"]
    s3.bucket_of(where).put(f"derived/{listed['asmk.safetensors']['sha256']}", b"damaged")
    monkeypatch.setattr(remote, "_VIEWS", {})
    monkeypatch.setenv("RESIGHT_CACHE", os.environ["RESIGHT_CACHE"] + "-2")
    assert "asmk.safetensors" in {finding.name for finding in check_collection(where) if not finding.ok}
    assert all(finding.ok for finding in repair_collection(where))
    assert answers(open_collection(where)) == expected


def test_the_command_takes_an_address_wherever_it_takes_a_name(bucket, photos):
    where = f"{bucket}/c.resight"
    first, more = photos
    assert told("index", first.folder, "--to", where, *SETTINGS)["added"] == 8
    assert told("add", where, more.folder)["added"] == 2
    assert told("index", first.folder, "--to", where)["unchanged"] == 8
    results = told("search", where, next(first.folder.glob("*.jpg")))["results"]
    assert results[0]["match"]
    assert told("remove", where, "000-0.jpg")["removed"] == 1
    info = told("info", where)
    assert (info["path"], info["photos"]) == (where, 9)
    assert command("check", where).returncode == 0
    assert not list((Path(os.environ["RESIGHT_CACHE"]) / "remote" / "views").iterdir())  # no process left its own


def test_a_killed_command_is_finished_by_the_next(bucket, photos, monkeypatch):
    where = f"{bucket}/c.resight"
    told("index", photos[1].folder, "--to", where, *SETTINGS)
    line = [sys.executable, "-c", "from resight.cli import main; main()", "add", where, str(photos[0].folder)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bucket_ = s3.bucket_of(where)
    while process.poll() is None and not bucket_.exists("writer.lease"):
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    bucket_.delete("writer.lease")  # in place of the time after which it is forgotten
    assert len(open_collection(where).ids) in range(2, 11)
    assert told("add", where, photos[0].folder)["added"] in range(9)
    monkeypatch.setattr(remote, "_VIEWS", {})
    collection = open_collection(where)
    assert (len(collection.ids), collection.pending, collection.snapshot.finished) == (10, 0, True)
    assert all(finding.ok for finding in check_collection(where))


@pytest.mark.parametrize(
    ("name", "environment", "sentence"),
    [
        ("s3://nowhere-at-all/c.resight", {}, "there is no such bucket"),
        ("s3://bucket/none.resight", {}, "s3://bucket/none.resight"),
        ("s3://bucket/c.resight", {"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is not set"),
        ("s3://bucket/c.resight", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ("s3://bucket/c.resight", {"AWS_ENDPOINT_URL": "nonsense"}, "cannot be reached"),
        ("gs://bucket/c.resight", {}, "neither a local folder nor in an S3 bucket"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_errors_are_one_sentence_without_secrets(name, environment, sentence):
    started = time.monotonic()
    done = command("info", name, **environment)
    assert done.returncode in (1, 2)
    assert time.monotonic() - started < 90
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    for secret in (KEY, SECRET, "127.0.0.1"):
        assert secret not in done.stderr + done.stdout


def test_a_service_follows_what_others_write(bucket, photos, monkeypatch):
    from resight.serving.opened import signature_of

    where = f"{bucket}/c.resight"
    create_collection(where, "classic", SMALL)
    view = collection_folder(where)
    before = signature_of(view)
    assert signature_of(view) == before
    monkeypatch.setattr(remote, "_VIEWS", {})
    open_collection(where).add([photos[1].folder])
    assert signature_of(view) != before
