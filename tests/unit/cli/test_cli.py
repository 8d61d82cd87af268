"""The command line: every command, its JSON, its exit codes, and one sentence for everything that goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import resight
from photo_factory import SMALL, make_photos, picture, save, spoil
from resight import cli
from resight.store.writer import writing

COMMANDS = [
    "index",
    "add",
    "remove",
    "label",
    "search",
    "explain",
    "info",
    "check",
    "duplicates",
    "group",
    "demo",
    "evaluate",
    "fit",
    "fit whitening",
    "graph",
    "graph build",
    "bench",
    "bench compare",
    "models",
    "models pull",
]
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def run(*arguments):
    """Run the command in this process: exit code, stdout, stderr. A traceback fails the test."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def run_json(*arguments):
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    return json.loads(out)


def resight_command(*arguments, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "resight", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def complaint(code, *arguments):
    """The one sentence that the command ends with, which must exit with `code`."""
    got, _, err = run(*arguments)
    lines = [line for line in err.splitlines() if line.strip()]
    assert got == code, err
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], err
    return lines[-1].removeprefix("error: ")


def test_index_search_and_all_the_others(tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    broken = spoil(photos.folder)
    name = tmp_path / "c.resight"
    report = run_json("index", photos.folder, "--to", name, *SETTINGS, "--jobs", 2)
    assert {key: report[key] for key in ("added", "updated", "unchanged", "skipped", "interrupted")} == {
        "added": 9,
        "updated": 0,
        "unchanged": 0,
        "skipped": 0,
        "interrupted": False,
    }
    assert {os.path.basename(problem["path"]) for problem in report["problems"]} == set(broken)
    assert report["collection"] == str(name)

    more = make_photos(tmp_path / "more", 1, first=8)
    assert run_json("add", name, more.folder)["added"] == 3
    assert run_json("index", photos.folder, more.folder, "--to", name)["unchanged"] == 16

    info = run_json("info", name)
    assert (info["photos"], info["broken"], info["pending"], info["words"]) == (16, 4, 0, 64)

    found = run_json("search", name, "008-0.jpg", "--top", 4)
    assert [r["id"] for r in found["results"] if r["match"]] == [r["id"] for r in found["results"][:2]]
    assert {r["id"] for r in found["results"][:2]} == {"008-1.jpg", "008-2.jpg"}
    assert found["confident"]
    assert found["results"][0]["path"] == str(more.folder / found["results"][0]["id"])
    assert len(found["results"]) == 4

    explained = run_json("explain", name, "008-0.jpg", "008-1.jpg", "--out", tmp_path / "why.png")
    assert explained["match"]
    assert len(explained["transform"]) == 3
    assert {item["stage"] for item in explained["evidence"]} >= {"AsmkSearch", "SpatialRerank"}
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.size[0] > 500

    assert run_json("duplicates", name, "--no-near") == []
    things = run_json("group", name, "--report", tmp_path / "things.html")
    assert all(len(thing["ids"]) == len(thing["inliers"]) >= 2 for thing in things)
    assert "What is here?" in (tmp_path / "things.html").read_text()
    run_json("duplicates", name, "--no-near", "--report", tmp_path / "twice.html")
    assert "There are no duplicates." in (tmp_path / "twice.html").read_text()
    assert all(finding["state"] == "ok" for finding in run_json("check", name))
    relearned = run_json("relearn", name)
    assert (relearned["words"], relearned["photos"]) == (64, 12)
    assert relearned["threshold"] >= 24
    assert run_json("search", name, "008-0.jpg")["calibrated"]
    assert run_json("remove", name, "008-1.jpg", "008-2.jpg") == {"removed": 2}
    (more.folder / "008-0.jpg").unlink()
    assert run_json("remove", name, "--missing") == {"removed": 1}
    assert run_json("info", name)["photos"] == 13
    assert all(finding["state"] == "ok" for finding in run_json("check", name, "--repair"))


def test_what_people_see(built, tmp_path):
    code, out, _ = run("search", built.path, "001-0.jpg", "--top", 3, "--report", tmp_path / "report.html")
    assert code == 0
    assert "001-1.jpg" in out
    assert "2 matches" in out
    page = (tmp_path / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "001-1.jpg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    outside = save(tmp_path / "stranger.jpg", picture(700))
    assert "no confident match" in run("search", built.path, outside)[1]
    assert "a match, rank" in run("explain", built.path, "001-0.jpg", "001-2.jpg")[1]
    assert "no match" in run("explain", built.path, "001-0.jpg", "002-2.jpg")[1]
    assert "recipe" in run("info", built.path)[1]
    assert "15 photos indexed" in run("check", built.path)[1]
    assert "no duplicates" in run("duplicates", built.path, "--no-near")[1]
    assert "joined by" in run("group", built.path)[1]
    assert run("--version")[1].strip() == f"resight {resight.__version__}"
    for command in COMMANDS:
        code, out, _ = run(*command.split(), "--help")
        assert (code, "Usage:" in out) == (0, True)


def test_search_says_in_a_sentence_that_the_calibration_is_missing(copied):
    (copied.path / "derived" / "confidence.json").unlink()
    code, out, err = run("search", copied.path, "001-0.jpg")
    assert (code, "2 matches (proof by geometry needed)" in out) == (0, True)
    assert "it is not known what unrelated photos score" in " ".join(err.split())
    assert "resight check --repair" in " ".join(err.split())
    assert run_json("search", copied.path, "001-0.jpg")["calibrated"] is False
    assert run("check", copied.path)[0] == 1
    assert run("check", copied.path, "--repair")[0] == 0
    assert run_json("search", copied.path, "001-0.jpg")["calibrated"] is True


def test_search_with_a_box_and_a_condition(built):
    found = run_json("search", built.path, "001-0.jpg", "--box", "0,0,200,240", "--where", "id LIKE '%-2.jpg'")
    assert found["box"] == "0,0,200,240"
    assert found["results"][0]["id"] == "001-2.jpg"
    assert {result["id"][-6:] for result in found["results"]} == {"-2.jpg"}


def test_a_query_name_that_is_not_utf8(built, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"odd\xff.jpg")
    shutil.copy(built.photos.folder / "001-0.jpg", path)
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = resight_command("search", built.path, os.fsdecode(path), "--json", "--top", 1, env=strict)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["query"].endswith("odd%FF.jpg")


USAGE = [
    (("search", "{c}", "nosuch.jpg"), "nosuch.jpg is neither a file nor the id"),
    (("search", "{c}", "001-0.jpg", "--box", "9000,0,5,5"), "outside the image, which is 320 x 240 pixels"),
    (("search", "{c}", "001-0.jpg", "--box", "1,2,3"), "is not of the form x,y,w,h"),
    (("search", "{c}", "001-0.jpg", "--where", "colour = 3"), "condition 'colour = 3'"),
    (("search", "{c}", "001-0.jpg", "--report", "{tmp}/no/such.html"), "there is no folder"),
    (("explain", "{c}", "001-0.jpg", "nosuch"), "no photo with id 'nosuch'"),
    (("explain", "{c}", "001-0.jpg", "empty.jpg"), "empty.jpg could not be read"),
    (("explain", "{c}", "001-0.jpg", "001-1.jpg", "--out", "{tmp}/no/x.png"), "there is no folder"),
    (("search", "{tmp}/nosuch.resight", "001-0.jpg"), "nosuch.resight does not exist: make a collection"),
    (("info", "{tmp}"), "is a folder but not a collection"),
    (("check", "{tmp}/nosuch.resight"), "does not exist"),
    (("duplicates", "{tmp}/nosuch.resight"), "does not exist"),
    (("add", "{tmp}/nosuch.resight", "{photos}"), "does not exist"),
    (("add", "{c}", "{tmp}/nowhere"), "nowhere' cannot be scanned"),
    (("remove", "{c}", "nosuch"), "no photo with id 'nosuch'"),
    (("remove", "{c}"), "there is nothing to remove"),
    (("index", "{tmp}/nowhere", "--to", "{tmp}/new.resight"), "nowhere' cannot be scanned"),
    (
        ("index", "{photos}", "--to", "{tmp}/new.resight", "--recipe", "nosuch"),
        "recipe 'nosuch' cannot index photos: choose one of classic",
    ),
    (("index", "{photos}", "--to", "{tmp}/new.resight", "--set", "cuont=3"), "has no option 'cuont'"),
    (("index", "{photos}", "--to", "{tmp}/new.resight", "--set", "count=many"), "count='many'"),
    (("index", "{photos}", "--to", "{tmp}/new.resight", "--set", "count"), "not of the form KEY=VALUE"),
    (("index", "{photos}", "--to", "{tmp}/new.resight", "--set", "count=["), "has no value that can be read"),
    (("index", "{photos}", "--to", "{tmp}/no/new.resight"), "there is no folder"),
    (("index", "{photos}", "--to", "{photos}"), "is a folder but not a collection"),
    (("index", "{photos}", "--to", "gs://bucket/new.resight"), "neither a local folder nor in an S3 bucket"),
]


@pytest.mark.parametrize(("arguments", "sentence"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_wrong_usage(built, tmp_path, arguments, sentence):
    filled = [a.format(c=built.path, tmp=tmp_path, photos=built.photos.folder) for a in arguments]
    assert sentence in complaint(2, *filled)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("nosuch",), ("search",), ("search", "c", "i", "--top", "0"), ("index", "p"), ("info", "c", "--x")],
)
def test_arguments_that_are_missing_or_wrong(arguments):
    code, out, err = run(*arguments)
    assert code == 2
    assert "Usage:" in out + err
    assert "Traceback" not in out + err


def test_a_query_that_cannot_be_decoded(built):
    for name in built.broken:
        assert name in complaint(1, "search", built.path, built.photos.folder / name)
    assert "is a folder" in complaint(1, "search", built.path, built.photos.folder)


def test_an_empty_folder(tmp_path, built):
    (tmp_path / "empty").mkdir()
    name = tmp_path / "c.resight"
    assert "there are no photos in" in complaint(1, "index", tmp_path / "empty", "--to", name)
    assert not name.exists()
    (tmp_path / "empty" / "notes.txt").write_text("no photo")
    assert "there are no photos in" in complaint(1, "index", tmp_path / "empty", "--to", name)
    assert "there are no photos in" in complaint(1, "add", built.path, tmp_path / "empty")


def test_a_folder_of_broken_files(tmp_path):
    broken = spoil(tmp_path / "photos")
    name = tmp_path / "c.resight"
    code, out, err = run("index", tmp_path / "photos", "--to", name, "--json")
    assert code == 1
    assert {os.path.basename(problem["path"]) for problem in json.loads(out)["problems"]} == set(broken)
    assert err.strip().startswith("error: none of the files")
    assert "none of the files" in complaint(1, "index", tmp_path / "photos", "--to", name)
    assert run_json("info", name)["broken"] == 4
    assert run("check", name)[0] == 0
    assert "holds no photos with features" in complaint(1, "search", name, save(tmp_path / "x.jpg", picture(1)))
    make_photos(tmp_path / "photos", 1)
    assert run("index", tmp_path / "photos", "--to", name)[0] == 0


def test_another_version(copied):
    stamp = copied.path / "stamp.json"
    whole = stamp.read_text()
    stamp.write_text(whole.replace('"format": 1', '"format": 99'))
    for arguments in (("info", copied.path), ("add", copied.path, copied.photos.folder)):
        assert "made by a newer resight (format 99)" in complaint(1, *arguments)
    code, out, _ = run("check", copied.path, "--json")
    assert (code, json.loads(out)[0]["state"]) == (1, "BROKEN")
    stamp.write_text(whole.replace('"format": 1', '"format": 0'))
    assert "has the old format 0" in complaint(1, "info", copied.path)
    stamp.write_text(whole.replace('"classic"', '"tomorrow"'))
    assert "recipe 'tomorrow' cannot index photos" in complaint(1, "search", copied.path, "001-0.jpg")
    stamp.write_text("{")
    assert "is damaged" in complaint(1, "info", copied.path)


def test_other_settings_or_recipe_than_the_collection(built):
    to = ("--to", built.path)
    assert "words = 64, not with = 99" in complaint(1, "index", built.photos.folder, *to, "--set", "words=99")
    assert "not with recipe other" in complaint(1, "index", built.photos.folder, *to, "--recipe", "other")
    assert "cannot be read" in complaint(1, "index", built.photos.folder, *to, "--codebook", "nosuch.safetensors")


def test_a_damaged_index(copied):
    (copied.path / "derived" / "asmk.safetensors").write_bytes(b"junk" * 100)
    assert "is damaged" in complaint(1, "search", copied.path, "001-0.jpg")
    code, out, _ = run("check", copied.path, "--json")
    assert code == 1
    assert [finding["name"] for finding in json.loads(out) if finding["state"] == "BROKEN"] == ["asmk.safetensors"]
    assert run("check", copied.path, "--repair")[0] == 0
    assert run("search", copied.path, "001-0.jpg")[0] == 0


def test_two_writers(copied, tmp_path):
    more = make_photos(tmp_path / "more", 1, first=30)
    with writing(copied.path, "the first one"):
        done = resight_command("add", copied.path, more.folder)
        assert done.returncode == 1
        assert f"is being written by process {os.getpid()} (the first one): wait" in done.stderr
        assert "Traceback" not in done.stderr
        assert resight_command("search", copied.path, "001-0.jpg").returncode == 0
    assert resight_command("add", copied.path, more.folder).returncode == 0


def test_a_path_that_cannot_be_written(built, tmp_path):
    assert "Is a directory" in complaint(1, "search", built.path, "001-0.jpg", "--report", tmp_path)
    assert "Is a directory" in complaint(1, "explain", built.path, "001-0.jpg", "001-1.jpg", "--out", tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk(small_disk, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    name = small_disk / "c.resight"
    assert run("index", photos.folder, "--to", name, *SETTINGS)[0] == 0
    more = make_photos(tmp_path / "more", 6, first=10)
    filler = small_disk / "filler"
    fill(filler)
    assert "the disk is full: free some space" in complaint(1, "add", name, more.folder)
    assert run_json("search", name, "000-0.jpg")["confident"]
    assert "the disk is full" in complaint(1, "index", photos.folder, "--to", small_disk / "d.resight")
    assert "the disk is full" in complaint(1, "search", name, "000-0.jpg", "--report", small_disk / "x.html")
    filler.unlink()
    assert run_json("add", name, more.folder)["added"] == 18
    assert run("check", name)[0] == 0
    assert sorted(os.listdir(small_disk)) == ["c.resight"]


def test_a_disk_that_is_full_when_the_index_is_written(small_disk, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    name = small_disk / "c.resight"
    many = ["--set", "count=150", "--set", "enlarge_below=0", "--set", "words=880"]  # a codebook of half a megabyte
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_500_000))
    assert "the disk is full: free some space" in complaint(1, "index", photos.folder, "--to", name, *many)
    filler.unlink()
    assert run_json("index", photos.folder, "--to", name)["unchanged"] == 6
    assert run_json("search", name, "000-0.jpg")["confident"]


def test_a_read_only_folder(small_disk, tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    name = small_disk / "c.resight"
    assert run("index", photos.folder, "--to", name, *SETTINGS)[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for arguments in (("add", name, photos.folder), ("remove", name, "000-0.jpg"), ("check", name, "--repair")):
        assert "read-only file system" in complaint(1, *arguments)
    assert "read-only file system" in complaint(1, "index", photos.folder, "--to", small_disk / "d.resight")
    assert run_json("search", name, "000-0.jpg")["confident"]
    assert run("check", name)[0] == 0


def test_the_reader_of_a_pipe_leaves(built):
    command = f"{sys.executable} -m resight search {built.path} 001-0.jpg --json"
    done = subprocess.run(f"{command} | head -c 1", shell=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{", "")


def test_help_and_search_are_light():
    code = "import sys, resight.cli, resight.collection.collection; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    code = (
        "import sys, resight.cli; print([m for m in ('numpy', 'cv2', 'lance', 'faiss', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_installed_command():
    script = Path(sys.executable).with_name("resight")
    if not script.exists():
        pytest.skip(f"no command {script}: resight is on the path without being installed")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"resight {resight.__version__}"


@pytest.mark.slow
def test_demo(tmp_path):
    pytest.importorskip("skimage")
    outcome = run_json("demo", "--to", tmp_path)
    assert outcome["map"] > 0.95
    assert len(outcome["queries"]) == 19
    assert outcome["without_partner"] == {"photos": 48, "matches": 0}
    assert all(query["matches"] == query["right_matches"] for query in outcome["queries"])
    page = Path(outcome["report"]).read_text()
    assert "resight demo" in page
    again = run_json("demo", "--to", tmp_path)
    assert again["map"] == outcome["map"]
