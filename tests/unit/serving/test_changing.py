"""Collections that change while they are served: by the service, from outside, and through what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from photo_factory import make_photos, picture, save, spoil, view
from resight.collection import open_collection
from resight.collection.check import check_collection
from resight.errors import UsageError
from resight.serving.asking import ServiceRefused
from resight.serving.client import connect
from resight.serving.photo_keys import key_of
from service_process import events, serving

pytest.importorskip("fastapi", reason="the extra serve is not installed")
AT = "/v1/collections/classic"


@pytest.fixture
def changed(world, tmp_path):
    """A service over a collection of its own."""
    collection = world.copy("classic", tmp_path)
    more = make_photos(tmp_path / "more", objects=3, first=40)
    spoil(tmp_path / "more")
    with serving(tmp_path / "log", collection.path, "--originals", "--allow-folder", more.folder) as service:
        yield service, collection.path, more


def test_uploads_are_added_once_found_and_removed(changed):
    service, path, more = changed
    photos = [(name, (more.folder / name).read_bytes()) for name in more.names[:2]]
    form = [("file", (f"../../etc/{name}", content)) for name, content in photos]
    header = {"Idempotency-Key": "one"}
    first = service.post(f"{AT}/photos", form=form, headers=header)
    assert first.status == 202
    assert service.post(f"{AT}/photos", form=form, headers=header).json["id"] == first.json["id"]
    assert service.post(f"{AT}/photos", form=form[:1], headers=header).status == 422
    job = service.wait("classic", first.json["id"])
    assert (job["state"], job["result"]["added"]) == ("done", 2), job
    found = service.post(f"{AT}/search", form=[("file", form[0][1])]).json["results"][0]
    assert found["match"] == "proven"
    assert found["id"].startswith("etc-040-0-") or found["id"].startswith("040-0-") or "040-0" in found["id"]
    kept = sorted(file.name for file in (path.parent / "classic-uploads").iterdir())
    assert len(kept) == 2
    assert all(name.replace("-", "").replace(".", "").isalnum() for name in kept)
    again = service.wait("classic", service.post(f"{AT}/photos", form=form).json["id"])
    assert again["result"]["added"] == 0
    removed = service.wait("classic", service.ask("DELETE", f"{AT}/photos/{found['key']}").json["id"])
    assert removed["result"] == {"removed": 1}
    assert service.get(f"{AT}/photos/{found['key']}").status == 404
    assert len(list((path.parent / "classic-uploads").iterdir())) == 2, "files stay"


def test_files_that_are_no_photos_are_not_added(changed):
    service, path, _ = changed
    assert service.post(f"{AT}/photos", form=[("file", ("a.jpg", b"#!/bin/sh"))]).status == 415
    assert not (path.parent / "classic-uploads").exists()


def test_a_folder_is_added_with_its_problems_and_told_meanwhile(changed):
    service, _, more = changed
    job = service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(more.folder)}).json["id"]
    told = events(service.get(f"{AT}/jobs/{job}/events", timeout=120).body)
    assert [kind for kind, _ in told][-1] == "done"
    assert any(data["of"] > 0 for kind, data in told if kind == "progress")
    last = told[-1][1]
    assert last["result"]["added"] == 9
    assert len(last["problems"]) == 4
    assert str(more.folder) not in json.dumps(last["problems"])
    assert service.get(f"{AT}/photos").json["total"] == 33, "found by who waited for the job"
    later = service.get(f"{AT}/jobs/{job}/events", headers={"Last-Event-ID": "999999"})
    assert [kind for kind, _ in events(later.body)] == ["done"]


@pytest.mark.parametrize("folder", ["/", "/etc", "more", "", "\0", "{more}/..", "{more}x", "{more}/../../etc"])
def test_other_folders_are_not_added(changed, folder):
    service, _, more = changed
    reply = service.post(f"{AT}/jobs", body={"kind": "add", "folder": folder.format(more=more.folder)})
    assert reply.status in (403, 404)


def test_links_out_of_an_allowed_folder_lead_nowhere(changed):
    service, _, more = changed
    (more.folder / "out").symlink_to("/etc")
    assert service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(more.folder / "out")}).status == 403


def test_jobs_build_graphs_and_find_duplicates(changed):
    service, path, _ = changed
    graph = service.post(f"{AT}/jobs", body={"kind": "graph", "k": 23}).json["id"]
    near = service.post(f"{AT}/jobs", body={"kind": "duplicates"}).json["id"]
    assert not service.get(f"{AT}/duplicates").json["near"]
    done = service.wait("classic", graph)
    assert done["state"] == "done", done
    assert service.wait("classic", near)["state"] == "done"
    found = service.get(f"{AT}/duplicates").json
    assert found["near"]
    assert all(group["kind"] == "near" and len(group["photos"]) > 1 for group in found["groups"])
    assert "diffusion" in {recipe["name"] for recipe in service.get(AT).json["recipes"]}
    asked = [("photo", key_of("001-1.jpg")), ("recipe", "explore-exploit"), ("options", '{"k": 5}')]
    assert service.post(f"{AT}/search", form=asked).json["results"]
    explained = service.get(
        f"{AT}/explain?photo={key_of('001-1.jpg')}&result={key_of('001-2.jpg')}&recipe=explore-exploit&options=%7B%22k%22:5%7D"
    ).json
    assert explained["path"][-1]["id"] == "001-2.jpg"
    assert open_collection(path).snapshot.graph is not None


def test_jobs_that_fail_say_why_without_paths(changed):
    service, path, _ = changed
    job = service.wait("classic", service.post(f"{AT}/jobs", body={"kind": "fit", "what": "fusion"}).json["id"])
    assert job["state"] == "failed"
    assert str(path) not in job["error"]
    assert "classic" in job["error"]


def test_a_job_that_is_cancelled_keeps_what_it_did(changed, tmp_path):
    service, path, _ = changed
    folder = make_photos(tmp_path / "more" / "many", objects=40, first=100).folder
    job = service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(folder)}).json["id"]
    while service.get(f"{AT}/jobs/{job}").json["done"] < 3:
        time.sleep(0.02)
    service.ask("DELETE", f"{AT}/jobs/{job}")
    stopped = service.wait("classic", job)
    assert stopped["state"] == "stopped"
    assert all(finding.ok for finding in check_collection(path))
    again = service.wait("classic", service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(folder)}).json["id"])
    assert again["state"] == "done"
    assert service.get(f"{AT}/photos").json["total"] == 24 + 120


def test_what_the_command_line_adds_is_served_without_a_dropped_request(changed):
    service, path, more = changed
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            reply = service.post(f"{AT}/search", form=[("photo", key_of("001-1.jpg")), ("top", 3)])
            if reply.status != 200 or reply.json["results"][0]["match"] != "proven":
                failures.append(reply)

    asking = threading.Thread(target=ask)
    asking.start()
    command = [sys.executable, "-m", "resight", "add", str(path), str(more.folder)]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    deadline = time.monotonic() + 60
    while service.get(f"{AT}/photos").json["total"] != 33 and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    asking.join()
    assert service.get(f"{AT}/photos").json["total"] == 33
    assert failures == []
    assert service.get(f"{AT}").json["pending"] == 0


def test_originals_are_the_files_that_were_indexed(changed, world):
    service, _, _ = changed
    reply = service.get(f"{AT}/photos/{key_of('001-1.jpg')}/original")
    assert reply.body == (world.photos.folder / "001-1.jpg").read_bytes()
    assert reply.headers["content-disposition"] == "attachment"


def test_a_file_that_changed_since_is_not_given_out(tmp_path):
    from photo_factory import SMALL
    from resight.collection import create_collection

    photos = make_photos(tmp_path / "photos", objects=3)
    create_collection(tmp_path / "c.resight", "classic", SMALL).add([photos.folder])
    with serving(tmp_path / "log", tmp_path / "c.resight", "--originals") as service:
        at = f"/v1/collections/c/photos/{key_of('001-1.jpg')}"
        (photos.folder / "001-1.jpg").write_bytes(b"root:x:0:0")
        reply = service.get(f"{at}/original")
        assert (reply.status, str(tmp_path) in reply.detail) == (410, False)
        (photos.folder / "001-1.jpg").unlink()
        assert service.get(f"{at}/original").status == 410
        reply = service.get(f"{at}/thumbnail")
        assert (reply.status, str(tmp_path) in reply.detail) == (410, False)


@pytest.mark.parametrize("whom", ["job", "service"])
def test_a_kill_during_writes_loses_nothing_that_was_there(changed, tmp_path, whom):
    service, path, _ = changed
    folder = make_photos(tmp_path / "more" / "many", objects=40, first=100).folder
    job = service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(folder)}).json["id"]
    while service.get(f"{AT}/jobs/{job}").json["done"] < 5:
        time.sleep(0.02)
    (worker,) = service.children("job_worker")
    if whom == "service":
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait()
    os.kill(worker, signal.SIGKILL)
    while os.path.exists(f"/proc/{worker}") and whom == "service":
        time.sleep(0.02)
    if whom == "job":
        ended = service.wait("classic", job)
        assert (ended["state"], "start the job again" in ended["error"]) == ("failed", True)
        assert service.post(f"{AT}/search", form=[("photo", key_of("001-1.jpg"))]).status == 200
        again = service.post(f"{AT}/jobs", body={"kind": "add", "folder": str(folder)}).json["id"]
        assert service.wait("classic", again)["state"] == "done"
    else:
        collection = open_collection(path)
        assert collection.search("001-1.jpg", top=2).confident
        collection.add([folder])
    assert all(finding.ok for finding in check_collection(path))
    assert len(open_collection(path).ids) == 24 + 120


def test_a_stop_finishes_the_request_that_is_at_work(changed, tmp_path):
    service, _, _ = changed
    unseen = save(tmp_path / "unseen.jpg", view(picture(2), 50)).read_bytes()
    replies = []
    asking = threading.Thread(
        target=lambda: replies.append(service.post(f"{AT}/search", form=[("file", ("a", unseen))]))
    )
    following = service.connection()
    job = service.post(f"{AT}/jobs", body={"kind": "duplicates"}).json["id"]
    following.request("GET", f"{AT}/jobs/{job}/events")
    asking.start()
    time.sleep(0.1)
    started = time.monotonic()
    assert service.stop(signal.SIGTERM) == 0 or service.process.returncode == -signal.SIGTERM
    assert time.monotonic() - started < 30
    asking.join()
    assert replies[0].status == 200
    following.close()
    assert "Traceback" not in service.log.read_text()


def test_the_client_has_the_methods_of_a_collection(changed, tmp_path):
    service, path, more = changed
    remote, local = connect(service.url), open_collection(path)
    assert remote.info().photos == len(local.ids) == len(list(remote.photos()))
    unseen = save(tmp_path / "unseen.jpg", view(picture(1), 77))
    ours, theirs = local.search(unseen, top=5), remote.search(unseen, top=5)
    assert [r.id for r in theirs.results] == [r.id for r in ours.results]
    assert remote.search("001-1.jpg", top=1).results[0].id == local.search("001-1.jpg", top=1).results[0].id
    assert remote.search("001-1.jpg", where={"min_side": 999}).results == ()
    assert remote.search("001-1.jpg", expand=False, top=1).results
    assert remote.explain(theirs.token, "001-0.jpg").result.match == "proven"
    why = remote.explain("001-1.jpg", "001-0.jpg")
    assert len(why.inliers) == why.result.inliers
    assert remote.explain_picture("001-1.jpg", "001-0.jpg").startswith(b"\x89PNG")
    assert remote.thumbnail("001-1.jpg").startswith(b"\xff\xd8")
    assert remote.neighbours("001-1.jpg")["nodes"][0]["id"] == "001-1.jpg"
    assert remote.add([more.folder / more.names[0]]).result["added"] == 1
    (new,) = {photo.id for photo in remote.photos()} - set(local.ids)
    assert remote.remove([new]) == 1
    assert list(remote.duplicates()) == []
    with pytest.raises(ServiceRefused, match="no photo"):
        remote.search("none.jpg")
    with pytest.raises(UsageError, match="no option"):
        remote.search("001-1.jpg", nonsense=1)
    with pytest.raises(UsageError, match="classic"):
        connect(service.url, collection="other")


def test_two_collections_of_one_name_are_refused(world, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(world.path("classic"), tmp_path / folder / "c.resight")
    command = [sys.executable, "-m", "resight", "serve", str(tmp_path / "a/c.resight"), str(tmp_path / "b/c.resight")]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "rename one" in done.stderr) == (2, True)


def test_tags_are_changed_together_filtered_by_and_refused(changed):
    service, _, _ = changed
    photos = service.get(f"{AT}/photos?order=name&limit=3").json["photos"]
    remote = connect(service.url)
    ids = [photo["id"] for photo in photos]
    assert remote.tag(ids, add=["beach", "Ä b"]) == 3
    assert remote.tag(ids[:1], remove=["beach"], add=["beach too"]) == 1
    assert [photo.id for photo in remote.photos(tag="beach")] == ids[1:]
    assert service.get(f"{AT}/photos/{photos[0]['key']}").json["tags"] == ["beach too", "Ä b"]
    counts = {one["value"]: one["count"] for one in service.get(f"{AT}/facets").json["tags"]}
    assert counts == {"beach": 2, "beach too": 1, "Ä b": 3}
    found = remote.search(ids[0], where={"tag": "beach"})
    assert {result.id for result in found.results} <= set(ids[1:])
    for wrong in ({"photos": [photos[0]["key"]]}, {"photos": [photos[0]["key"]], "add": [" "]}, {"photos": []}):
        assert service.post(f"{AT}/tags", body=wrong).status in (400, 422)
    assert service.post(f"{AT}/tags", body={"photos": [key_of("none.jpg")], "add": ["a"]}).status == 404
