"""The page's files, read without a browser: languages, icons, types, nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import resight

PAGE = Path(resight.__file__).parent / "serving" / "page"
CHECK = Path(__file__).parents[2] / "browser" / "jsconfig.json"
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.iterdir())}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}
LARGEST = 300  # lines of a script


def words():
    """English and German by key, as strings.js lists them."""
    entry = r'^  "([\w.-]+)": \["(.*)", "(.*)"\],$'
    return {key: texts for key, *texts in re.findall(entry, SCRIPTS["strings.js"], re.M)}


def asked():
    """Keys of words that scripts ask for: whole ones, and patterns of those put together."""
    whole, patterns = set(), set()
    for text in SCRIPTS.values():
        whole |= set(re.findall(r'\bt\([^)`]*?"([\w.-]+)"', text))
        whole |= {f"{key}.{number}" for key in re.findall(r'\bcount\("(\w+)"', text) for number in ("one", "other")}
        for key in re.findall(r"\bt\(`([^`]+)`", text):
            patterns.add(r"[\w-]+".join(re.escape(part) for part in re.split(r"\$\{.*?\}", key)))
        whole |= set(re.findall(r'\? "([\w]+\.[\w.-]+)" :', text)) | set(re.findall(r' : "([\w]+\.[\w.-]+)"\)', text))
    return whole, patterns


def test_every_word_is_there_in_both_languages_and_used():
    known, (whole, patterns) = words(), asked()
    assert len(known) > 150
    assert len(known) == len(re.findall(r'^  "[\w.-]+": \[', SCRIPTS["strings.js"], re.M))  # none is written otherwise
    assert {key for key in whole if key not in known} == set()
    unused = {key for key in known if key not in whole and not any(re.fullmatch(one, key) for one in patterns)}
    assert unused == set()


@pytest.mark.parametrize("language", [0, 1])
def test_words_are_there_with_the_same_values_in_each_language(language):
    for key, texts in words().items():
        assert texts[language].strip(), key
        assert set(re.findall(r"\{\w+\}", texts[0])) == set(re.findall(r"\{\w+\}", texts[1])), key


def test_icons_that_are_shown_are_drawn():
    drawn = set(re.findall(r'<symbol id="(\w+)"', SOURCES["icons.svg"]))
    call = r'(?<!classList\.)\b(?:icon|button|chooseButton|empty|toggle)\("(\w+)"'
    shown = {name for text in SCRIPTS.values() for name in re.findall(call, text)}
    assert len(shown) > 15
    assert shown <= drawn


def test_nothing_is_inline_or_from_elsewhere():
    for name, text in SOURCES.items():
        assert not re.search(r"(?:src|href|url\(|import|from)\s*[=(]?\s*[\"']?(?:https?:)?//", text), name
        assert "eval(" not in text
        assert "innerHTML" not in text
    assert not re.search(r"\bstyle=|<style|\bon\w+=|<script(?![^>]*\bsrc=)", SOURCES["index.html"])
    assert "document.cookie" not in "".join(SCRIPTS.values())


def test_scripts_are_small():
    assert {name: len(text.splitlines()) for name, text in SCRIPTS.items() if len(text.splitlines()) > LARGEST} == {}


def test_types_hold():
    tsc = os.environ.get("RESIGHT_TSC") or shutil.which("tsc")
    if tsc is None:
        pytest.skip("there is no TypeScript compiler: npm install typescript, and name its tsc in RESIGHT_TSC")
    done = subprocess.run([tsc, "-p", str(CHECK)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
