"""Collections in a bucket, on a real S3 server: what holds on a disk holds there, for readers and writers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import boto3
import pytest
from store_samples import append, packed_of

from resight.errors import CollectionError, CollectionLocked, CollectionNotFound, UsageError
from resight.store import lease, remote, s3
from resight.store.check import check_tables
from resight.store.folder import collection_exists, collection_folder
from resight.store.remote import cache_folder, fetch, present
from resight.store.tables import create, open_tables, snapshot
from resight.store.writer import writing
from s3_server import BUCKET, KEY, SECRET, serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server():
    with serving() as environment:
        yield environment


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """Address of a bucket, in the environment of the test, with a cache of its own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_VIEWS", {})
    client = boto3.client("s3", endpoint_url=server["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=found["Key"])


@pytest.fixture
def address(bucket, stamp):
    """A collection of two photos."""
    where = f"{bucket}/some/c.resight"
    create(where, stamp)
    with writing(where, "test") as writer:
        append(writer, ["a", "b"])
    return where


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Go on as a process on another machine would, which has fetched nothing."""

    def move():
        monkeypatch.setattr(remote, "_VIEWS", {})
        monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / f"cache-{time.monotonic_ns()}"))

    return move


def ids(address):
    return open_tables(address).images(["id"])["id"].to_pylist()


def derive(writer, name, content):
    file = writer.folder / "derived" / name
    file.write_bytes(content)
    return file


def test_photos_come_and_go(address, elsewhere):
    with writing(address, "test") as writer:
        append(writer, ["c", "a"])
        writer.remove_rows([1])
    elsewhere()
    tables = open_tables(address)
    assert tables.images(["row", "id"]).to_pydict() == {"row": [2, 3], "id": ["c", "a"]}
    assert tables.local([3, 2]) == [packed_of(3), packed_of(2)]
    assert tables.next_row == 4
    assert all(finding.ok for finding in check_tables(address))


def test_people_read_the_address(address):
    folder = collection_folder(address)
    assert (str(folder), folder.name) == (address, "c.resight")
    assert collection_folder(os.fspath(folder)) is folder  # the local path of the view leads back
    assert collection_folder(address + "/") is folder
    assert collection_exists(address)
    assert not collection_exists(address.replace("c.resight", "d.resight"))


def test_a_name_that_is_taken(address, stamp):
    with pytest.raises(UsageError, match="already exists"):
        create(address, stamp)


def test_what_a_killed_call_made_is_made_again(bucket, stamp):
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    create(f"{bucket}/c.resight", stamp)
    for name in ("stamp.json", "stamp.copy.json"):  # which are written last
        client.delete_object(Bucket=BUCKET, Key=f"c.resight/{name}")
    with pytest.raises(CollectionNotFound):
        open_tables(f"{bucket}/c.resight")
    assert len(create(f"{bucket}/c.resight", stamp)) == 0


def test_a_reader_keeps_its_state(address):
    before = open_tables(address)
    with writing(address, "test") as writer:
        append(writer, ["c"])
        writer.remove_rows([0])
    assert before.images(["id"])["id"].to_pylist() == ["a", "b"]
    assert before.local([0]) == [packed_of(0)]
    assert ids(address) == ["b", "c"]


def test_the_second_writer_is_refused(address, elsewhere):
    with writing(address, "the first"):
        elsewhere()
        with pytest.raises(CollectionLocked, match=r"process \d+ on .*\(the first\)"), writing(address, "second"):
            pass
    with writing(address, "second") as writer:
        append(writer, ["c"])
    assert ids(address) == ["a", "b", "c"]


def test_of_many_writers_one_writes_at_a_time(address):
    program = """
import sys
from store_samples import append
from resight.errors import CollectionLocked
from resight.store.writer import writing
try:
    with writing(sys.argv[1], "many") as writer:
        append(writer, [sys.argv[2]])
    print("written")
except CollectionLocked:
    print("locked")
"""

    def write(number):
        done = subprocess.run(
            [sys.executable, "-c", program, address, f"w{number}"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip(), done.stderr

    with ThreadPool(4) as pool:
        said = pool.map(write, range(4))
    assert {word for word, _ in said} <= {"written", "locked"}, said
    written = sorted(f"w{number}" for number, (word, _) in enumerate(said) if word == "written")
    assert written
    assert sorted(ids(address)) == sorted(["a", "b", *written])
    assert len(set(open_tables(address).rows.tolist())) == 2 + len(written)


KILLED = """
import sys
from store_samples import append
from resight.store.writer import writing
with writing(sys.argv[1], "to be killed") as writer:
    print("ready", flush=True)
    number = 0
    while True:
        append(writer, [f"k{number}"])
        print(number, flush=True)
        number += 1
"""


def test_a_killed_writer_is_forgotten_and_nothing_is_lost(address, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, address], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    process.kill()
    done = len(process.stdout.read().split())
    process.stdout.close()
    process.wait()
    with pytest.raises(CollectionLocked, match="to be killed"), writing(address, "too early"):
        pass
    found = ids(address)
    assert found in ([["a", "b", *(f"k{number}" for number in range(n))] for n in (done, done + 1)])
    monkeypatch.setattr(lease, "SECONDS", 0.5)
    time.sleep(2.0)
    with writing(address, "later") as writer:
        append(writer, ["z"])
    assert ids(address) == [*found, "z"]
    assert all(finding.ok for finding in check_tables(address))


def test_a_writer_that_slept_too_long_writes_no_more(address, elsewhere, monkeypatch):
    monkeypatch.setattr(lease, "_renew", lambda *_: None)
    with pytest.raises(CollectionError, match="has taken over"), writing(address, "sleeper") as sleeper:  # noqa: PT012
        time.sleep(1.2)
        elsewhere()
        monkeypatch.setattr(lease, "SECONDS", 0.1)
        with writing(address, "quick") as writer:
            append(writer, ["quick"])
        append(sleeper, ["sleeper"])
    assert ids(address) == ["a", "b", "quick"]


def test_the_lease_is_renewed(address, elsewhere, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    with writing(address, "long work"):
        elsewhere()
        time.sleep(5.0)
        with pytest.raises(CollectionLocked), writing(address, "second"):
            pass


# Artifacts


def test_artifacts_are_fetched_when_needed(address, elsewhere):
    with writing(address, "test") as writer:
        derive(writer, "one.json", b"one")
        derive(writer, "two.json", b"two")
    elsewhere()
    open_tables(address)
    folder = collection_folder(address)
    assert present(folder, "one.json")
    assert not list((folder / "derived").iterdir())
    fetch(folder, "one.json")
    assert [file.read_bytes() for file in (folder / "derived").iterdir()] == [b"one"]


def test_all_artifacts_change_at_once(address, elsewhere):
    with writing(address, "test") as writer:
        derive(writer, "one.json", b"one")
        derive(writer, "two.json", b"two")
    elsewhere()
    open_tables(address)
    reader = collection_folder(address)
    elsewhere()
    with writing(address, "test") as writer:
        fetch(writer.folder, "one.json")
        derive(writer, "one.json", b"one more")
        fetch(writer.folder, "two.json")
        (writer.folder / "derived" / "two.json").unlink()
        derive(writer, "three.json", b"three")
    for name in ("one.json", "two.json"):  # the reader still sees, and can fetch, what it was opened with
        fetch(reader, name)
    assert {file.name: file.read_bytes() for file in (reader / "derived").iterdir()} == {
        "one.json": b"one",
        "two.json": b"two",
    }
    remote.pull(reader)
    assert not present(reader, "two.json")
    fetch(reader, "one.json")
    fetch(reader, "three.json")
    assert {file.name: file.read_bytes() for file in (reader / "derived").iterdir()} == {
        "one.json": b"one more",
        "three.json": b"three",
    }


def test_what_a_stopped_writer_left_in_the_view_does_not_count(address):
    with writing(address, "test") as writer:
        derive(writer, "one.json", b"one")
    with pytest.raises(RuntimeError, match="stopped"), writing(address, "test") as writer:  # noqa: PT012
        derive(writer, "one.json", b"half")
        derive(writer, "new.json", b"half")
        raise RuntimeError("stopped")
    open_tables(address)
    folder = collection_folder(address)
    fetch(folder, "one.json")
    assert {file.name: file.read_bytes() for file in (folder / "derived").iterdir()} == {"one.json": b"one"}


def test_damaged_content_is_never_used(address, elsewhere):
    with writing(address, "test") as writer:
        derive(writer, "one.json", b"one")
    name, _ = next(iter(s3.bucket_of(address).sizes("derived/")))
    s3.bucket_of(address).put(name, b"eno")
    elsewhere()
    open_tables(address)
    with pytest.raises(CollectionError, match="is not what was written"):
        fetch(collection_folder(address), "one.json")


def test_a_changed_file_of_the_cache_is_fetched_again(address, monkeypatch):
    with writing(address, "test") as writer:
        derive(writer, "one.json", b"one")
    (kept,) = (cache_folder() / "content").iterdir()
    kept.unlink()
    kept.write_bytes(b"eno")
    monkeypatch.setattr(remote, "_VIEWS", {})
    open_tables(address)
    fetch(collection_folder(address), "one.json")
    assert (collection_folder(address) / "derived" / "one.json").read_bytes() == b"one"


def test_the_bucket_keeps_contents_of_two_lists(address):
    for content in (b"one", b"two", b"three"):
        with writing(address, "test") as writer:
            derive(writer, "one.json", content)
    assert len(list(s3.bucket_of(address).sizes("derived/"))) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"files": {"../x": {"sha256": "' + b"a" * 64 + b'", "size": 1}}, "before": []}', b"\0" * 9],
)
def test_a_damaged_list_is_told(address, content):
    s3.bucket_of(address).put("artifacts.json", content)
    with pytest.raises(CollectionError, match=r"artifacts\.json is damaged"):
        open_tables(address)


# What goes wrong: one sentence, soon, without keys and addresses of servers


def failure(action, kind=CollectionError):
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        action()
    assert time.monotonic() - started < 60
    text = str(caught.value)
    assert "\n" not in text
    for secret in (KEY, SECRET, "127.0.0.1", "http://"):
        assert secret not in text
    return text


@pytest.mark.usefixtures("bucket")
def test_no_such_bucket(stamp):
    assert "there is no such bucket" in failure(lambda: open_tables("s3://elsewhere/c.resight"))
    assert "there is no such bucket" in failure(lambda: create("s3://elsewhere/c.resight", stamp))


def test_no_such_collection(bucket):
    assert "s3://" in failure(lambda: open_tables(f"{bucket}/none.resight"), CollectionNotFound)


@pytest.mark.usefixtures("bucket")
def test_no_credentials(monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_SECRET_ACCESS_KEY is not set" in failure(lambda: open_tables("s3://bucket/c.resight"), UsageError)


def test_an_endpoint_that_is_down(address, monkeypatch, elsewhere):
    tables = open_tables(address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    elsewhere()
    assert "cannot be reached" in failure(lambda: open_tables(address))
    view = collection_folder(address)
    assert "cannot be reached" in failure(lambda: snapshot(view))  # Lance's own client
    assert len(tables) == 2


@pytest.mark.parametrize("text", ["s3://", "s3://bucket", "s3://bucket/", "s3://B_/x", "gs://bucket/c", "s3://b/../c"])
def test_addresses_that_are_none(text):
    failure(lambda: collection_folder(text), UsageError)


def test_a_list_that_comes_late(address, elsewhere, monkeypatch):
    """A store whose listings are behind: the writer fails or works, and what was stored stays."""
    from moto.s3.models import S3Backend

    listed = S3Backend.list_objects

    def late(self, bucket_, prefix, *rest):
        found = listed(self, bucket_, prefix, *rest)
        if prefix and prefix.endswith("_versions/"):
            newest = max((key.last_modified for key in found[0]), default=None)
            kept = [key for key in found[0] if key.last_modified != newest or len(found[0]) == 1]
            return (kept, *found[1:])
        return found

    written = []
    for number in range(4):
        elsewhere()
        monkeypatch.setattr(S3Backend, "list_objects", late)
        try:
            with writing(address, "behind") as writer:
                append(writer, [f"n{number}"])
            written.append(f"n{number}")
        except (CollectionError, UsageError):
            pass
        finally:
            monkeypatch.setattr(S3Backend, "list_objects", listed)
    assert ids(address)[:2] == ["a", "b"]
    assert set(written) <= set(ids(address))
    rows = open_tables(address).rows.tolist()
    assert len(set(rows)) == len(rows)


def test_stores_that_know_no_conditions_are_found_out(address, elsewhere, monkeypatch):
    """Both writers think that they made the lease; the first finds at its next commit that it is not its own."""
    put = s3.Bucket.put
    monkeypatch.setattr(s3.Bucket, "put", lambda self, key, content, **_: put(self, key, content))
    with pytest.raises(CollectionError, match="has taken over"), writing(address, "first") as first:  # noqa: PT012
        elsewhere()
        with writing(address, "second") as second:
            append(second, ["second"])
        append(first, ["first"])
    assert ids(address) == ["a", "b", "second"]
