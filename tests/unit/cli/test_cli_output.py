"""What reaches the terminal, whatever files are called, and how commands end when their output or their time does."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from photo_factory import SMALL, make_photos, picture, save
from resight.cli import console
from resight.collection import create_collection

RUN = [sys.executable, "-m", "resight"]
EVIL = "a\x1b[31mred\x9bm\u202egpj.jpg"


def resight(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments)], capture_output=True, timeout=300, check=False, **{"text": True, **options}
    )


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A collection with a photo and a broken file whose names hold orders to the terminal."""
    base = tmp_path_factory.mktemp("evil")
    photos = make_photos(base / "photos", objects=2)
    shutil.copy(photos.folder / "000-0.jpg", photos.folder / EVIL)
    (photos.folder / f"broken{EVIL}").write_bytes(b"no photo")
    create_collection(base / "c.resight", "classic", SMALL).add([photos.folder])
    return base


def test_text_that_a_terminal_would_obey_is_written_out():
    assert console.safe("a\x1b[31m\x9b\x07\u202e\udcff\x7f\n\t é 日") == (
        "a\\x1b[31m\\x9b\\x07\\u202e\\udcff\\x7f\\n\\t é 日"
    )
    assert console.safe("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "{c}", "000-1.jpg"),
        ("search", "{c}", EVIL),
        ("search", "{c}", "nosuch" + EVIL),
        ("search", "{c}", "{photos}/broken" + EVIL),
        ("explain", "{c}", EVIL, "000-1.jpg"),
        ("explain", "{c}", "000-1.jpg", EVIL),
        ("explain", "{c}", "000-1.jpg", "nosuch" + EVIL),
        ("index", "{photos}", "--to", "{c}"),
        ("duplicates", "{c}", "--no-near"),
        ("remove", "{c}", "nosuch" + EVIL),
        ("info", "{c}/" + EVIL),
        ("nosuch" + EVIL,),
        ("search", "{c}", "000-1.jpg", "--top", EVIL),
        ("search", "{c}", "000-1.jpg", "--recipe", EVIL),
        ("search", "{c}", "000-1.jpg", "--set", EVIL),
        ("search", "{c}", "000-1.jpg", "--where", EVIL),
        ("search", "{c}", "000-1.jpg", "--json"),
    ],
    ids=str,
)
def test_no_name_gives_orders_to_the_terminal(evil, arguments):
    filled = [a.replace("{c}", f"{evil}/c.resight").replace("{photos}", f"{evil}/photos") for a in arguments]
    done = resight(*filled)
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), shown


def test_json_keeps_names_as_they_are(evil):
    found = json.loads(resight("search", evil / "c.resight", "000-0.jpg", "--json").stdout)
    assert EVIL in [result["id"] for result in found["results"]]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "utf-8:surrogateescape"])
def test_other_encodings(tmp_path, built, encoding):
    strange = save(tmp_path / "日本\N{SNOWMAN}.jpg", picture(700))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (("search", built.path, strange), ("search", built.path, strange, "--json"), ("--help",),
                      ("search", built.path, tmp_path / "☃.jpg"), ("info", built.path)):  # fmt: skip
        done = resight(*arguments, env=environment, text=False)
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 2)
    found = json.loads(resight("search", built.path, strange, "--json", env=environment, text=False).stdout)
    assert found["query"].endswith("日本\N{SNOWMAN}.jpg")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("info", "{c}"), ("info", "{c}", "--json"),
                                       ("search", "{c}", "001-0.jpg")], ids=" ".join)  # fmt: skip
def test_a_standard_output_that_is_full(built, arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RUN, *(a.format(c=built.path) for a in arguments)], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_standard_error_that_is_full(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RUN, "info", str(tmp_path / "none.resight")], stderr=full, stdout=subprocess.PIPE,
                              timeout=300, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("arguments", ["search {c} 001-0.jpg --json", "search {c} 001-0.jpg", "info {c}"])
def test_the_reader_of_a_pipe_that_left_is_not_told(built, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*RUN, *arguments.format(c=built.path).split()], stdout=writing, stderr=subprocess.PIPE,
                          text=True, timeout=300, check=False)  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def read_terminal(leader, until, seconds):
    """What a terminal shows until `until` matches, and how long that took."""
    started, shown = time.monotonic(), b""
    while time.monotonic() - started < seconds and not re.search(until, shown):
        try:
            shown += os.read(leader, 1000)
        except OSError:  # all that wrote to it have ended
            break
    return shown.decode(errors="replace"), time.monotonic() - started


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("search {c} 001-0.jpg", "opening"),
        ("explain {c} 001-0.jpg 001-1.jpg", "opening"),
        ("evaluate folders:{c}", "opening"),
    ],
)
def test_something_is_said_before_the_work(built, arguments, word):
    leader, follower = pty.openpty()
    command = [*RUN, *arguments.format(c=built.path).split()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower, env={**os.environ, "TERM": "xterm"})
    os.close(follower)
    shown, _ = read_terminal(leader, word.encode(), 60)
    assert word in shown
    assert process.poll() is None  # it is the first word, not the last
    process.kill()
    process.wait()
    os.close(leader)


def test_kernels_that_are_yet_to_be_compiled_are_announced(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert console.first_word("opening x") == "opening x; compiling kernels (first run only)"
    (tmp_path / "matching_1").mkdir()
    (tmp_path / "matching_1" / "shortlist._best-1.py311.nbi").touch()
    assert console.first_word("opening x") == "opening x"


def test_ctrl_c_is_heard_while_native_code_runs(tmp_path):
    """The handler of Python waits for a call such as this one to return; the word must come at once."""
    code = (
        "import ctypes, sys, typer\n"
        "from resight.cli import app, console\n"
        "@app.command()\n"
        "def long():\n"
        "    console.say('running'); sys.stdout.flush()\n"
        "    ctypes.CDLL(None).poll(None, 0, 3000)\n"  # deaf to signals from Python, and back after three seconds
        "    ctypes.CDLL(None).poll(None, 0, 3000)\n"
        "app()\n"
    )
    file = tmp_path / "long.py"
    file.write_text(code)
    process = subprocess.Popen(
        [sys.executable, file, "long"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == [
        "stopping: what was done so far is kept",
        "stopped: nothing is lost, run the same command again to finish",
    ]


def test_an_interrupt_is_answered_once(tmp_path):
    photos = make_photos(tmp_path / "photos", 12)
    arguments = [*RUN, "index", str(photos.folder), "--to", str(tmp_path / "c.resight"), "--jobs", "1"]
    arguments += [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "c.resight").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.count("stopping: what was done so far is kept") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/somewhere/resight"], "/somewhere/resight"),
        (["{cwd}/.venv/bin/resight"], ".venv/bin/resight"),
        (["{cwd}/on path/resight"], "resight"),
        (["{cwd}/a b/resight"], "'a b/resight'"),
        (["/usr/lib/resight/__main__.py"], "{python} -m resight"),
        (["/usr/bin/pytest"], "resight"),
    ],
)
def test_the_program_is_named_as_it_can_be_called(monkeypatch, tmp_path, argv, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "on path").mkdir()
    script = tmp_path / "on path" / "resight"
    script.write_text("")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "on path"))
    monkeypatch.setattr(sys, "argv", [argv[0].format(cwd=tmp_path)])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert console.program() == expected.format(python="bin/python")


def test_numbers_in_words():
    assert [console.count(n, "photo") for n in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
    assert console.count(2, "match") == "2 matches"
    assert console.percent(0.8437) == "84.4"


def test_tables_show_markup_as_text(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=shown, width=80))
    console.print_table("[red]t", ("a",), [("[bold]x\x1b[1m",)])
    assert "[red]t" in shown.getvalue()
    assert "[bold]x\\x1b[1m" in shown.getvalue()


def test_titles_of_tables_stay_on_one_line(monkeypatch):
    """The name of a model can be copied from a narrow terminal."""
    shown = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=shown, width=80))
    title = "models (weights in /" + "a long folder/" * 10 + ")"
    console.print_table(title, ("a",), [("x",)])
    assert shown.getvalue().splitlines()[0] == title
